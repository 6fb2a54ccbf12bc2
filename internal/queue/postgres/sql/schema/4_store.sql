-- An attempt that ended and finished its delivery, and an arrival, as store_4 takes them.
CREATE TYPE hubhook.end_4 AS (
	id uuid, token bigint, state smallint, reason text, failures integer, attempts integer, duration bigint,
	n integer, started bigint, error text, stack text, output bytea, result bytea
);
CREATE TYPE hubhook.arrival_4 AS (
	id uuid, endpoint bigint, received bigint, started bigint, state smallint, synthetic boolean, attempts integer, token bigint,
	scope text, action text, repo_type text, repo_name text, webhook_id text, reason text, header bytea, body bytea, encoding smallint,
	hash uuid, keep bigint
);

-- store_4 is commit_4 for plain batches, which most are. Their ends finish deliveries. Their arrivals have neither a serial key nor a burst,
-- replay nothing, and are the first with their Webhook-Ids. If a delivery does not run, or a Webhook-Id is stored already, store_4 fails with
-- HH003, and commit_4 has to store the batch. Two arrays of rows take less time than the fifty arrays of commit_4.
CREATE FUNCTION hubhook.store_4(
	sync text, my_process integer, my_epoch bigint, my_batch bigint, lease_for bigint, ends hubhook.end_4[], arrivals hubhook.arrival_4[]
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	more bigint;
	some_endpoints bigint[]; some_keys bigint[];
BEGIN
	IF sync <> '' THEN
		PERFORM set_config('synchronous_commit', sync, true);
	END IF;
	UPDATE hubhook.writer SET batch = my_batch, kinds = NULL, places = NULL, ids = NULL, ats = NULL WHERE process = my_process AND epoch = my_epoch;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'another connection of this process stores deliveries by now' USING ERRCODE = 'HH001';
	END IF;

	IF cardinality(ends) > 0 THEN
		WITH finished AS (
			DELETE FROM hubhook.unfinished u USING unnest(ends) e
			WHERE u.id = ANY (ARRAY[e.id]) AND u.token = e.token AND u.state + 0 = {running}
			RETURNING e.*, u.endpoint, u.serial
		), changed AS (
			UPDATE hubhook.delivery d SET state = f.state, unusual = CASE WHEN f.state > {done} THEN f.state END, reason = f.reason,
				failures = f.failures, attempts = f.attempts, duration = f.duration, started = CASE WHEN f.n > 0 THEN f.started ELSE d.started END, run_at = NULL
			FROM finished f WHERE d.id = ANY (ARRAY[f.id])
		), noted AS (
			INSERT INTO hubhook.attempt (delivery, n, started, duration, error, stack, output, result)
			SELECT id, n, started, duration, error, stack, output, result FROM finished
			-- The delivery's own row says all there is to say of a plain success.
			WHERE n > 0 AND NOT (state = {done} AND n = attempts AND error IS NULL AND stack IS NULL AND output IS NULL AND result IS NULL)
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
			SELECT endpoint, state, my_process * 2, sum(n) FROM (
				SELECT endpoint, state, 1 AS n FROM finished UNION ALL SELECT endpoint, {running}, -1 FROM finished
			) x GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT cardinality(ends) - count(*), array_agg(endpoint) FILTER (WHERE serial <> 0), array_agg(serial) FILTER (WHERE serial <> 0)
		INTO more, some_endpoints, some_keys FROM finished;
		IF more > 0 THEN
			RAISE EXCEPTION 'there are deliveries that do not run' USING ERRCODE = 'HH003';
		END IF;
		IF some_keys IS NOT NULL THEN
			PERFORM hubhook.series_1(some_endpoints, some_keys);
		END IF;
	END IF;

	IF cardinality(arrivals) > 0 THEN
		WITH a AS MATERIALIZED (
			SELECT * FROM unnest(arrivals)
		), w AS (
			INSERT INTO hubhook.webhook (hash, delivery, keep) SELECT hash, id, keep FROM a WHERE hash IS NOT NULL ORDER BY hash
			ON CONFLICT DO NOTHING RETURNING hash
		), d AS (
			INSERT INTO hubhook.delivery (id, endpoint, received, started, state, unusual, synthetic, attempts,
				scope, action, repo_type, repo_name, webhook_id, reason)
			SELECT id, endpoint, received, started, state, CASE WHEN state > {done} THEN state END, synthetic, attempts,
				scope, action, repo_type, repo_name, webhook_id, reason
			FROM a
		), c AS (
			INSERT INTO hubhook.content (id, header, body, encoding) SELECT id, header, body, encoding FROM a
		), u AS (
			INSERT INTO hubhook.unfinished (id, endpoint, serial, run_at, token, lease, state, suspect, started)
			SELECT id, endpoint, 0, received, CASE WHEN state = {running} THEN token END,
				CASE WHEN state = {running} THEN hubhook.now_1() + lease_for END, state, false, state = {running}
			FROM a WHERE state < {done}
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n) SELECT endpoint, state, my_process * 2, count(*) FROM a GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT (SELECT count(hash) FROM a) - count(*) INTO more FROM w;
		IF more > 0 THEN
			RAISE EXCEPTION 'there are deliveries with these Webhook-Ids' USING ERRCODE = 'HH003';
		END IF;
	END IF;
END $$;
