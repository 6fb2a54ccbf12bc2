-- claim_1 first takes over deliveries whose lease has ended: they become waiting, or dead. Then it starts due deliveries of the wanted
-- endpoints. It skips rows that another process has locked, so it never waits.
CREATE FUNCTION hubhook.claim_1(
	my_process integer, take_over boolean, alone_after integer, dead_after integer, died text, interrupted text,
	want_endpoint bigint[], want_n bigint[], want_suspects boolean[], first_token bigint, lease_for bigint
) RETURNS SETOF hubhook.row_1 LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	slot integer := my_process * 2 + 1;
	now_ns bigint := hubhook.now_1();
	some_ids uuid[]; some_keys bigint[]; some_endpoints bigint[]; plain uuid[]; keyed uuid[];
	w record;
	nothing hubhook.row_1;
	r hubhook.row_1;
	got bigint;
	next_at bigint;
	soonest bigint;
BEGIN
	-- A start that is lost with the server happens again, as it would without having been stored. Only where keys are held
	-- should it not be forgotten by a mere crash.
	PERFORM set_config('synchronous_commit', 'off', true);
	IF take_over THEN
		WITH ended AS (
			SELECT u.id FROM hubhook.unfinished u WHERE u.state = {running} AND u.lease < now_ns ORDER BY u.lease LIMIT 200 FOR UPDATE SKIP LOCKED
		), dead AS (
			DELETE FROM hubhook.unfinished u USING ended, hubhook.delivery d
			WHERE u.id = ended.id AND d.id = ended.id AND d.interruptions + 1 >= dead_after
			RETURNING u.id, u.endpoint, u.serial, {dead} AS state
		), waits AS (
			UPDATE hubhook.unfinished u SET state = {waiting}, run_at = 0, token = NULL, lease = NULL, suspect = d.interruptions + 1 >= alone_after
			FROM ended, hubhook.delivery d WHERE u.id = ended.id AND d.id = ended.id AND d.interruptions + 1 < dead_after
			RETURNING u.id, u.endpoint, u.serial, {waiting} AS state
		), taken AS (
			SELECT * FROM dead UNION ALL SELECT * FROM waits
		), changed AS (
			UPDATE hubhook.delivery d SET interruptions = d.interruptions + 1, state = t.state, unusual = nullif(t.state, {waiting}),
				reason = CASE WHEN t.state = {dead} THEN died END
			FROM taken t WHERE d.id = t.id
			RETURNING d.id, d.attempts, d.started
		), noted AS (
			INSERT INTO hubhook.attempt (delivery, n, started, duration, error)
			SELECT id, attempts, coalesce(started, 0), 0, interrupted FROM changed ON CONFLICT DO NOTHING
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
			SELECT endpoint, state, slot, sum(n) FROM (
				SELECT endpoint, state, 1 AS n FROM taken UNION ALL SELECT endpoint, {running}, -1 FROM taken
			) x GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT array_agg(id), array_agg(endpoint) FILTER (WHERE serial <> 0), array_agg(serial) FILTER (WHERE serial <> 0)
		INTO some_ids, some_endpoints, some_keys FROM taken;
		IF some_ids IS NOT NULL THEN
			RETURN QUERY SELECT * FROM hubhook.rows_1(array_fill({row.taken}::bigint, ARRAY[cardinality(some_ids)]), NULL, some_ids, NULL);
		END IF;
		IF some_keys IS NOT NULL THEN
			PERFORM hubhook.series_1(some_endpoints, some_keys);
		END IF;
	END IF;

	FOR w IN SELECT * FROM unnest(want_endpoint, want_n, want_suspects) AS w (endpoint, n, suspects) LOOP
		some_keys := ARRAY(
			SELECT s.key FROM hubhook.series s
			WHERE s.endpoint = w.endpoint AND s.suspect = w.suspects AND NOT s.held AND s.run_at <= now_ns
			ORDER BY s.run_at LIMIT w.n FOR UPDATE SKIP LOCKED
		);
		-- Statements of their own, because they must see what those did who had the keys until now.
		keyed := ARRAY(
			SELECT head.id FROM unnest(some_keys) AS k (key), LATERAL (
				SELECT u.id FROM hubhook.unfinished u
				WHERE u.endpoint = w.endpoint AND u.serial = k.key AND u.serial <> 0 AND u.state <> {running} AND u.run_at <= now_ns
					AND u.suspect = w.suspects
				ORDER BY u.run_at, u.id LIMIT 1 FOR UPDATE SKIP LOCKED
			) head
		);
		plain := ARRAY(
			SELECT u.id FROM hubhook.unfinished u
			WHERE u.endpoint = w.endpoint AND u.suspect = w.suspects AND u.serial = 0 AND u.state <> {running} AND u.run_at <= now_ns
			ORDER BY u.run_at, u.id LIMIT w.n FOR UPDATE SKIP LOCKED
		);
		some_ids := ARRAY(
			SELECT u.id FROM unnest(plain || keyed) AS c (id) JOIN hubhook.unfinished u ON u.id = c.id ORDER BY u.run_at, u.id LIMIT w.n
		);
		got := cardinality(some_ids);
		IF got > 0 THEN
			RETURN QUERY WITH c AS (
				SELECT c.id, c.place, u.state FROM unnest(some_ids) WITH ORDINALITY AS c (id, place) JOIN hubhook.unfinished u ON u.id = c.id
			), u AS (
				UPDATE hubhook.unfinished u SET state = {running}, token = first_token + c.place, lease = now_ns + lease_for, started = true
				FROM c WHERE u.id = c.id
				RETURNING u.id, u.token, u.serial, u.burst, c.place, c.state
			), bursts AS (
				UPDATE hubhook.delivery d SET merged_into = u.id FROM u WHERE u.burst IS NOT NULL AND d.burst = u.burst AND d.id <> u.id AND d.merged_into <> u.id
			), d AS (
				UPDATE hubhook.delivery d SET state = {running}, attempts = d.attempts + 1, started = now_ns, run_at = NULL
				FROM u WHERE d.id = u.id
				RETURNING d.*, u.token AS claim, u.serial, u.place
			), tallied AS (
				INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
				SELECT w.endpoint, state, slot, sum(n) FROM (
					SELECT {running} AS state, 1 AS n FROM u UNION ALL SELECT state, -1 FROM u
				) x GROUP BY 2
				ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
			)
			SELECT {row.claimed}::bigint, d.place, 0::bigint,
				d.id, d.endpoint, d.state, d.received, d.attempts, d.failures, d.interruptions,
				d.duplicates, d.replays, d.synthetic, d.started, d.duration, d.run_at, d.replay_of,
				d.merged_into, d.scope, d.action, d.repo_type, d.repo_name, d.webhook_id, d.reason,
				d.burst, d.claim, d.serial,
				CASE WHEN d.burst IS NOT NULL THEN ARRAY(SELECT m.id FROM hubhook.delivery m WHERE m.burst = d.burst AND m.state = {merged} ORDER BY m.id) END,
				c.header, c.body, c.encoding
			FROM d LEFT JOIN hubhook.content c ON c.id = d.id ORDER BY d.place;
			first_token := first_token + got;
		END IF;
		IF cardinality(some_keys) > 0 THEN
			PERFORM set_config('synchronous_commit', 'local', true);
			PERFORM hubhook.series_1(array_fill(w.endpoint, ARRAY[cardinality(some_keys)]), some_keys);
		END IF;
		-- What others are about to start need not be looked for again, so a want that was not met says that nothing is left.
		r := nothing;
		r.kind := {row.endpoint};
		r.endpoint := w.endpoint;
		r.place := (got >= w.n AND (
			EXISTS (SELECT FROM hubhook.unfinished u WHERE u.endpoint = w.endpoint AND NOT u.suspect AND u.serial = 0 AND u.state <> {running} AND u.run_at <= now_ns)
			OR EXISTS (SELECT FROM hubhook.series s WHERE s.endpoint = w.endpoint AND NOT s.suspect AND NOT s.held AND s.run_at <= now_ns)))::integer;
		RETURN NEXT r;
		FOR i IN 0 .. 1 LOOP
			SELECT min(run_at) INTO next_at FROM (
				(SELECT u.run_at FROM hubhook.unfinished u
				WHERE u.endpoint = w.endpoint AND u.suspect = (i = 1) AND u.serial = 0 AND u.state <> {running} AND u.run_at > now_ns ORDER BY u.run_at LIMIT 1)
				UNION ALL
				(SELECT s.run_at FROM hubhook.series s
				WHERE s.endpoint = w.endpoint AND s.suspect = (i = 1) AND NOT s.held AND s.run_at > now_ns ORDER BY s.run_at LIMIT 1)
			) x;
			soonest := least(soonest, next_at);
		END LOOP;
	END LOOP;
	FOR w IN
		SELECT DISTINCT endpoint FROM (
			SELECT u.endpoint FROM hubhook.unfinished u WHERE u.suspect AND u.serial = 0 AND u.state <> {running} AND u.run_at <= now_ns
			UNION ALL SELECT s.endpoint FROM hubhook.series s WHERE s.suspect AND NOT s.held AND s.run_at <= now_ns
		) x
	LOOP
		r := nothing;
		r.kind := {row.suspects};
		r.endpoint := w.endpoint;
		RETURN NEXT r;
	END LOOP;
	FOR w IN SELECT endpoint FROM hubhook.tally WHERE state = {waiting} GROUP BY endpoint HAVING sum(n) > 0 LOOP
		r := nothing;
		r.kind := {row.oldest};
		r.endpoint := w.endpoint;
		SELECT u.id INTO r.id FROM hubhook.unfinished u WHERE u.endpoint = w.endpoint AND u.state = {waiting} ORDER BY u.id LIMIT 1;
		RETURN NEXT r;
	END LOOP;
	r := nothing;
	r.kind := {row.remaining};
	r.at := soonest;
	SELECT coalesce(sum(n), 0) INTO r.place FROM hubhook.tally WHERE state = {waiting};
	RETURN NEXT r;
END $$;
