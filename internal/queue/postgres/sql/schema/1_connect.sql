-- connect_1 makes the calling connection the only one that may store for its process. It also removes the given arrivals: the answer of
-- their commit was lost on an earlier connection. It keeps an arrival that something relies on already: another delivery was merged into
-- it or answered as its duplicate, or another process has started it.
CREATE FUNCTION hubhook.connect_1(sync text, my_process integer, ids uuid[], tokens bigint[]) RETURNS TABLE (epoch bigint, batch bigint) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	gone uuid[]; some_endpoints bigint[]; some_keys bigint[];
BEGIN
	PERFORM set_config('synchronous_commit', sync, true) WHERE sync <> '';
	RETURN QUERY INSERT INTO hubhook.writer AS w (process, epoch, batch) VALUES (my_process, 1, 0)
	ON CONFLICT (process) DO UPDATE SET epoch = w.epoch + 1 RETURNING w.epoch, w.batch;
	IF cardinality(ids) > 0 THEN
		-- A duplicate that is being stored just now is seen by what follows.
		PERFORM FROM hubhook.delivery d WHERE d.id = ANY (ids) ORDER BY d.id FOR UPDATE;
		WITH taken AS (
			DELETE FROM hubhook.unfinished u USING unnest(ids, tokens) AS a (id, token)
			WHERE u.id = a.id AND (u.state = {waiting} AND NOT u.started OR u.state = {running} AND u.token = a.token)
				AND NOT EXISTS (SELECT FROM hubhook.delivery m WHERE m.burst = u.burst AND m.id <> u.id)
				AND NOT EXISTS (SELECT FROM hubhook.delivery d WHERE d.id = u.id AND d.duplicates > 0)
			RETURNING u.id, u.endpoint, u.serial, u.state
		), deliveries AS (
			DELETE FROM hubhook.delivery d USING taken t WHERE d.id = t.id
		), contents AS (
			DELETE FROM hubhook.content c USING taken t WHERE c.id = t.id
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
			SELECT endpoint, state, my_process * 2, -count(*) FROM taken GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT array_agg(id), array_agg(endpoint) FILTER (WHERE serial <> 0), array_agg(serial) FILTER (WHERE serial <> 0)
		INTO gone, some_endpoints, some_keys FROM taken;
		IF some_keys IS NOT NULL THEN
			PERFORM hubhook.series_1(some_endpoints, some_keys);
		END IF;
	END IF;
END $$;
