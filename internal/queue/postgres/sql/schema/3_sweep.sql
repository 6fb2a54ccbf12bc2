-- sweep_3 removes up to max_rows deliveries that need not be kept, and some rows of other tables that are not needed any more. removed is
-- how many deliveries it has removed, or -1 if another process is sweeping. last and kept say how far it has come: given to the next call
-- as after and kept_after, they spare it the index entries of what was removed, which stay until the next vacuum. A sweep begins with NULL
-- for both.
CREATE FUNCTION hubhook.sweep_3(my_process integer, before uuid, keep_count bigint, max_rows bigint, after uuid, kept_after bigint,
	OUT removed bigint, OUT last uuid, OUT kept bigint) LANGUAGE plpgsql
SET jit = off AS $$
#variable_conflict use_column
DECLARE
	now_ns bigint := hubhook.now_1();
	from_id uuid := coalesce(after, '00000000-0000-0000-0000-000000000000');
	from_keep bigint := coalesce(kept_after, 0);
	old uuid[]; many uuid[];
	excess bigint;
BEGIN
	last := after;
	kept := kept_after;
	IF NOT pg_try_advisory_xact_lock(7524361420211914091) THEN
		removed := -1;
		RETURN;
	END IF;
	PERFORM set_config('synchronous_commit', 'off', true);
	old := ARRAY(
		SELECT d.id FROM hubhook.delivery d WHERE d.id > from_id AND d.id < before AND d.state >= {done}
			AND NOT (d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst))
		ORDER BY d.id LIMIT max_rows FOR UPDATE SKIP LOCKED
	);
	SELECT coalesce(sum(n), 0) - keep_count INTO excess FROM hubhook.tally WHERE state IN ({done}, {skipped}, {merged}, {discarded});
	excess := least(excess - cardinality(old), max_rows - cardinality(old));
	IF excess > 0 THEN
		many := ARRAY(
			SELECT d.id FROM hubhook.delivery d WHERE d.id > from_id AND d.id >= before AND d.state IN ({done}, {skipped}, {merged}, {discarded})
				AND NOT (d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst))
			ORDER BY d.id LIMIT excess FOR UPDATE SKIP LOCKED
		);
		old := old || many;
	END IF;
	removed := cardinality(old);
	IF removed > 0 THEN
		last := old[removed];
		WITH gone AS (
			DELETE FROM hubhook.delivery d WHERE d.id = ANY (old) RETURNING d.endpoint, d.state
		)
		INSERT INTO hubhook.tally AS t (endpoint, state, slot, n) SELECT endpoint, state, my_process * 2 + 1, -count(*) FROM gone GROUP BY 1, 2
		ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n;
		DELETE FROM hubhook.content WHERE id = ANY (old);
		DELETE FROM hubhook.attempt WHERE delivery = ANY (old);
	END IF;
	-- Those of unfinished deliveries stay, and are looked at again later.
	WITH w AS (
		SELECT hash, keep, delivery FROM hubhook.webhook WHERE keep >= from_keep AND keep < now_ns ORDER BY keep LIMIT max_rows FOR UPDATE SKIP LOCKED
	), needed AS (
		UPDATE hubhook.webhook t SET keep = now_ns + 600000000000 FROM w
		WHERE t.hash = w.hash AND EXISTS (
			SELECT FROM hubhook.delivery d WHERE d.id = t.delivery
				AND (d.state < {done} OR d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst)))
		RETURNING t.hash
	), gone AS (
		DELETE FROM hubhook.webhook t USING w WHERE t.hash = w.hash AND NOT EXISTS (
			SELECT FROM hubhook.delivery d WHERE d.id = t.delivery
				AND (d.state < {done} OR d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst)))
	)
	SELECT coalesce(max(w.keep), kept_after) INTO kept FROM w;
	IF after IS NOT NULL OR kept_after IS NOT NULL THEN
		RETURN; -- the rest was done by the first step
	END IF;
	DELETE FROM hubhook.series WHERE (endpoint, key) IN (
		SELECT endpoint, key FROM hubhook.series WHERE NOT held AND run_at IS NULL LIMIT 5000 FOR UPDATE SKIP LOCKED);
	DELETE FROM hubhook.burst WHERE (endpoint, key) IN (
		SELECT endpoint, key FROM hubhook.burst b WHERE NOT EXISTS (SELECT FROM hubhook.unfinished u WHERE u.id = b.last)
		LIMIT 5000 FOR UPDATE SKIP LOCKED);
	-- A process that was away for so long begins anew when it is back. Its second connection has its number with a minus sign.
	IF EXISTS (SELECT FROM hubhook.process WHERE seen < now_ns - 86400000000000 AND id <> my_process) THEN
		WITH away AS (
			DELETE FROM hubhook.process WHERE seen < now_ns - 86400000000000 AND id <> my_process RETURNING id
		), writers AS (
			DELETE FROM hubhook.writer w USING away WHERE abs(w.process) = away.id
		), slots AS (
			DELETE FROM hubhook.tally t USING away WHERE abs(t.slot) / 2 = away.id RETURNING t.endpoint, t.state, t.n
		)
		INSERT INTO hubhook.tally AS t (endpoint, state, slot, n) SELECT endpoint, state, 0, sum(n) FROM slots GROUP BY 1, 2
		ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n;
	END IF;
END $$;
