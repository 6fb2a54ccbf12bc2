
-- renew_3 extends the leases of the given claims, and returns the claims that are gone. For state + 0 see commit_3.
CREATE FUNCTION hubhook.renew_3(my_process integer, ids uuid[], tokens bigint[], lease_for bigint) RETURNS SETOF hubhook.row_1 LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	now_ns bigint := hubhook.now_1();
	r hubhook.row_1;
BEGIN
	-- A lease need not survive the loss of this server: those who have it renew it on the next one.
	PERFORM set_config('synchronous_commit', 'local', true) WHERE current_setting('synchronous_commit') <> 'off';
	UPDATE hubhook.process SET seen = now_ns WHERE id = my_process;
	IF NOT FOUND THEN
		INSERT INTO hubhook.process (id, seen) OVERRIDING SYSTEM VALUE VALUES (my_process, now_ns) ON CONFLICT DO NOTHING;
	END IF;
	-- A row that is locked is about to end, or to be taken away.
	WITH mine AS (
		SELECT u.id FROM unnest(ids, tokens) AS c (id, token) JOIN hubhook.unfinished u ON u.id = c.id
		WHERE u.token = c.token AND u.state + 0 = {running} FOR UPDATE OF u SKIP LOCKED
	)
	UPDATE hubhook.unfinished u SET lease = now_ns + lease_for FROM mine WHERE u.id = mine.id;
	RETURN QUERY SELECT r.* FROM unnest(ids, tokens) WITH ORDINALITY AS c (id, token, place),
		LATERAL hubhook.rows_1(ARRAY[{row.gone}::bigint], ARRAY[c.place], ARRAY[c.id], ARRAY[0::bigint]) r
	-- One that is not there at all is still about to be stored.
	WHERE r.state IS NOT NULL AND NOT EXISTS (SELECT FROM hubhook.unfinished u WHERE u.id = c.id AND u.token = c.token);
	r.kind := {row.process};
	r.at := now_ns;
	SELECT count(*) INTO r.place FROM hubhook.process WHERE id <> my_process AND seen > now_ns - 30000000000;
	RETURN NEXT r;
END $$;
