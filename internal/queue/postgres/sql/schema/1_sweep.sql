-- sweep_1 removes up to max_rows deliveries that need not be kept, and some rows of other tables that are not needed any more. It returns
-- how many deliveries it has removed, or -1 if another process is sweeping.
CREATE FUNCTION hubhook.sweep_1(my_process integer, before uuid, keep_count bigint, max_rows bigint) RETURNS bigint LANGUAGE plpgsql
SET jit = off AS $$
#variable_conflict use_column
DECLARE
	now_ns bigint := hubhook.now_1();
	old uuid[]; many uuid[];
	excess bigint;
BEGIN
	IF NOT pg_try_advisory_xact_lock(7524361420211914091) THEN
		RETURN -1;
	END IF;
	PERFORM set_config('synchronous_commit', 'off', true);
	old := ARRAY(
		SELECT d.id FROM hubhook.delivery d WHERE d.id < before AND d.state >= {done}
			AND NOT (d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst))
		ORDER BY d.id LIMIT max_rows FOR UPDATE SKIP LOCKED
	);
	SELECT coalesce(sum(n), 0) - keep_count INTO excess FROM hubhook.tally WHERE state IN ({done}, {skipped}, {merged}, {discarded});
	excess := least(excess - cardinality(old), max_rows - cardinality(old));
	IF excess > 0 THEN
		many := ARRAY(
			SELECT d.id FROM hubhook.delivery d WHERE d.id >= before AND d.state IN ({done}, {skipped}, {merged}, {discarded})
				AND NOT (d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst))
			ORDER BY d.id LIMIT excess FOR UPDATE SKIP LOCKED
		);
		old := old || many;
	END IF;
	IF cardinality(old) > 0 THEN
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
		SELECT hash FROM hubhook.webhook WHERE keep < now_ns ORDER BY keep LIMIT max_rows FOR UPDATE SKIP LOCKED
	), needed AS (
		UPDATE hubhook.webhook t SET keep = now_ns + 600000000000 FROM w
		WHERE t.hash = w.hash AND EXISTS (
			SELECT FROM hubhook.delivery d WHERE d.id = t.delivery
				AND (d.state < {done} OR d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst)))
		RETURNING t.hash
	)
	DELETE FROM hubhook.webhook t USING w WHERE t.hash = w.hash AND NOT EXISTS (
		SELECT FROM hubhook.delivery d WHERE d.id = t.delivery
			AND (d.state < {done} OR d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst)));
	DELETE FROM hubhook.series WHERE (endpoint, key) IN (
		SELECT endpoint, key FROM hubhook.series WHERE NOT held AND run_at IS NULL LIMIT max_rows FOR UPDATE SKIP LOCKED);
	DELETE FROM hubhook.burst WHERE (endpoint, key) IN (
		SELECT endpoint, key FROM hubhook.burst b WHERE NOT EXISTS (SELECT FROM hubhook.unfinished u WHERE u.id = b.last)
		LIMIT max_rows FOR UPDATE SKIP LOCKED);
	-- A process that was away for so long begins anew when it is back.
	IF EXISTS (SELECT FROM hubhook.process WHERE seen < now_ns - 86400000000000 AND id <> my_process) THEN
		WITH away AS (
			DELETE FROM hubhook.process WHERE seen < now_ns - 86400000000000 AND id <> my_process RETURNING id
		), writers AS (
			DELETE FROM hubhook.writer w USING away WHERE w.process = away.id
		), slots AS (
			DELETE FROM hubhook.tally t USING away WHERE t.slot / 2 = away.id RETURNING t.endpoint, t.state, t.n
		)
		INSERT INTO hubhook.tally AS t (endpoint, state, slot, n) SELECT endpoint, state, 0, sum(n) FROM slots GROUP BY 1, 2
		ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n;
	END IF;
	RETURN cardinality(old);
END $$;
