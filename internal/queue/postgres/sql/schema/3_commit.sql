
-- commit_3 makes the changes of a batch: ends, discards, arrivals. Arrivals that share a Webhook-Id or a burst key come in rounds, so
-- that each statement meets a key at most once. Before that, all keys are locked, in order.
--
-- Its plans are made once and serve tables of any size. In a small table a scan of all rows looks cheap, so such scans are switched off.
-- So does a scan of an index of those rows that run or wait, which goes through the entries of all that have run since the last vacuum. Where
-- a row is looked for by its id, "state + 0" keeps such an index out.
CREATE FUNCTION hubhook.commit_3(
	sync text, my_process integer, my_epoch bigint, my_batch bigint, lease_for bigint,
	end_id uuid[], end_token bigint[], end_from bigint[], end_state bigint[], end_reason text[], end_failures bigint[],
	end_attempts bigint[], end_duration bigint[], end_run_at bigint[], end_n bigint[], end_started bigint[], end_error text[],
	end_stack text[], end_output bytea[], end_result bytea[],
	discard_id uuid[], discard_reason text[],
	fresh_endpoint bigint[], fresh_name text[],
	webhook_hash uuid[], webhook_delivery uuid[], webhook_until bigint[],
	burst_endpoint bigint[], burst_key bigint[],
	rounds bigint, arrival_round bigint[],
	arrival_id uuid[], arrival_endpoint bigint[], arrival_state bigint[], arrival_received bigint[], arrival_started bigint[], arrival_attempts bigint[],
	arrival_token bigint[], arrival_serial bigint[], arrival_synthetic boolean[], arrival_replay_of uuid[], arrival_scope text[], arrival_action text[],
	arrival_repo_type text[], arrival_repo_name text[], arrival_webhook_id text[], arrival_reason text[], arrival_stack text[],
	arrival_header bytea[], arrival_body bytea[], arrival_encoding bigint[],
	arrival_hash uuid[], arrival_since bigint[], arrival_key bigint[], arrival_wait bigint[], arrival_max_wait bigint[]
) RETURNS SETOF hubhook.row_1 LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	slot integer := my_process * 2;
	lease_end bigint := hubhook.now_1() + lease_for;
	r_kinds bigint[] := '{}'; r_places bigint[] := '{}'; r_ids uuid[] := '{}'; r_ats bigint[] := '{}';
	series_endpoints bigint[] := '{}'; series_keys bigint[] := '{}';
	done bigint[]; some_places bigint[]; some_ids uuid[]; some_ats bigint[]; some_endpoints bigint[]; some_keys bigint[];
	duplicates bigint[];
	may_repeat boolean := false;
BEGIN
	PERFORM set_config('synchronous_commit', sync, true) WHERE sync <> '';
	UPDATE hubhook.writer SET batch = my_batch, kinds = NULL, places = NULL, ids = NULL, ats = NULL WHERE process = my_process AND epoch = my_epoch;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'another connection of this process stores deliveries by now' USING ERRCODE = 'HH001';
	END IF;

	IF cardinality(end_id) > 0 THEN
		WITH e AS (
			SELECT * FROM unnest(end_id, end_token, end_state, end_reason, end_failures, end_attempts, end_duration, end_run_at,
				end_n, end_started, end_error, end_stack, end_output, end_result)
			WITH ORDINALITY AS e (id, token, state, reason, failures, attempts, duration, run_at, n, started, error, stack, output, result, place)
		), finished AS (
			DELETE FROM hubhook.unfinished u USING e WHERE u.id = e.id AND u.token = e.token AND u.state + 0 = {running} AND e.state >= {done}
			RETURNING e.*, u.endpoint, u.serial
		), back AS (
			UPDATE hubhook.unfinished u SET state = e.state, run_at = e.run_at, token = NULL, lease = NULL
			FROM e WHERE u.id = e.id AND u.token = e.token AND u.state + 0 = {running} AND e.state < {done}
			RETURNING e.*, u.endpoint, u.serial
		), kept AS (
			SELECT * FROM finished UNION ALL SELECT * FROM back
		), changed AS (
			UPDATE hubhook.delivery d SET state = k.state, unusual = CASE WHEN k.state > {done} THEN k.state END,
				reason = nullif(k.reason, ''), failures = k.failures, attempts = k.attempts, duration = k.duration,
				started = CASE WHEN k.n > 0 THEN k.started ELSE d.started END, run_at = CASE WHEN k.state = {retrying} THEN k.run_at END
			FROM kept k WHERE d.id = k.id
		), noted AS (
			INSERT INTO hubhook.attempt (delivery, n, started, duration, error, stack, output, result)
			SELECT id, n, started, duration, nullif(error, ''), nullif(stack, ''), output, result FROM kept
			-- The delivery's own row says all there is to say of a plain success.
			WHERE n > 0 AND NOT (state = {done} AND n = attempts AND error = '' AND stack = '' AND output IS NULL AND result IS NULL)
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
			SELECT endpoint, state, slot, sum(n) FROM (
				SELECT endpoint, state, 1 AS n FROM kept UNION ALL SELECT endpoint, {running}, -1 FROM kept
			) x GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT array_agg(place), array_agg(endpoint) FILTER (WHERE serial <> 0), array_agg(serial) FILTER (WHERE serial <> 0)
		INTO done, some_endpoints, some_keys FROM kept;
		done := coalesce(done, '{}');
		series_endpoints := series_endpoints || some_endpoints;
		series_keys := series_keys || some_keys;
		IF cardinality(done) < cardinality(end_id) THEN
			-- One that was discarded while it ran stays so; its attempt is kept.
			WITH changed AS (
				UPDATE hubhook.delivery d SET attempts = e.attempts, failures = e.failures, duration = e.duration
				FROM unnest(end_id, end_token, end_from, end_attempts, end_failures, end_duration,
					end_n, end_started, end_error, end_stack, end_output, end_result)
				WITH ORDINALITY AS e (id, token, was, attempts, failures, duration, n, started, error, stack, output, result, place)
				WHERE d.id = e.id AND d.state = {discarded} AND d.token = e.token AND e.was = {discarded}
				RETURNING e.*
			), noted AS (
				INSERT INTO hubhook.attempt (delivery, n, started, duration, error, stack, output, result)
				SELECT id, n, started, duration, nullif(error, ''), nullif(stack, ''), output, result FROM changed WHERE n > 0
			)
			SELECT done || coalesce(array_agg(place), '{}') INTO done FROM changed;
			SELECT array_agg(place), array_agg(id) INTO some_places, some_ids
			FROM unnest(end_id) WITH ORDINALITY AS e (id, place) WHERE place <> ALL (done);
			r_kinds := r_kinds || array_fill({row.lost}::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
			r_places := r_places || some_places; r_ids := r_ids || some_ids;
			r_ats := r_ats || array_fill(0::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
		END IF;
	END IF;

	IF cardinality(discard_id) > 0 THEN
		PERFORM FROM hubhook.unfinished u WHERE u.id = ANY (discard_id) ORDER BY u.id FOR UPDATE NOWAIT;
		WITH x AS (
			SELECT * FROM unnest(discard_id, discard_reason) WITH ORDINALITY AS x (id, reason, place)
		), gone AS (
			DELETE FROM hubhook.unfinished u USING x WHERE u.id = x.id
			RETURNING x.id, x.reason, x.place, u.state, u.endpoint, u.serial, u.token
		), changed AS (
			UPDATE hubhook.delivery d SET state = {discarded}, unusual = {discarded}, reason = nullif(g.reason, ''), run_at = NULL, token = g.token
			FROM gone g WHERE d.id = g.id
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
			SELECT endpoint, state, slot, sum(n) FROM (
				SELECT endpoint, {discarded} AS state, 1 AS n FROM gone UNION ALL SELECT endpoint, state, -1 FROM gone
			) x GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT array_agg(place), array_agg(id), array_agg(state),
			array_agg(endpoint) FILTER (WHERE serial <> 0), array_agg(serial) FILTER (WHERE serial <> 0)
		INTO some_places, some_ids, some_ats, some_endpoints, some_keys FROM gone;
		r_kinds := r_kinds || array_fill({row.discarded}::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
		r_places := r_places || some_places; r_ids := r_ids || some_ids; r_ats := r_ats || some_ats;
		series_endpoints := series_endpoints || some_endpoints;
		series_keys := series_keys || some_keys;
		done := coalesce(some_places, '{}');
		SELECT array_agg(x.place), array_agg(x.id), array_agg(d.state) INTO some_places, some_ids, some_ats
		FROM unnest(discard_id) WITH ORDINALITY AS x (id, place) JOIN hubhook.delivery d ON d.id = x.id WHERE x.place <> ALL (done);
		r_kinds := r_kinds || array_fill({row.discarded}::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
		r_places := r_places || some_places; r_ids := r_ids || some_ids; r_ats := r_ats || some_ats;
	END IF;

	IF cardinality(fresh_endpoint) > 0 THEN
		INSERT INTO hubhook.endpoint (id, name) SELECT * FROM unnest(fresh_endpoint, fresh_name) ON CONFLICT (id) DO NOTHING;
	END IF;
	IF cardinality(webhook_hash) > 0 THEN
		-- The times that are given are even; an odd one tells that the row was there.
		WITH w AS (
			INSERT INTO hubhook.webhook AS w (hash, delivery, keep) SELECT * FROM unnest(webhook_hash, webhook_delivery, webhook_until)
			ON CONFLICT (hash) DO UPDATE SET keep = greatest(w.keep, excluded.keep) | 1 RETURNING w.keep
		)
		SELECT bool_or(keep % 2 = 1) OR rounds > 1 INTO may_repeat FROM w;
	END IF;
	IF cardinality(burst_key) > 0 THEN
		INSERT INTO hubhook.burst AS b (endpoint, key) SELECT * FROM unnest(burst_endpoint, burst_key)
		ON CONFLICT (endpoint, key) DO UPDATE SET last = b.last;
	END IF;
	FOR this_round IN 0 .. rounds - 1 LOOP
		duplicates := '{}';
		IF may_repeat THEN
			SELECT array_agg(a.place), array_agg(w.delivery) INTO some_places, some_ids
			FROM unnest(arrival_id, arrival_hash, arrival_round) WITH ORDINALITY AS a (id, hash, round, place)
			JOIN hubhook.webhook w ON w.hash = a.hash
			WHERE a.round = this_round AND a.hash IS NOT NULL AND w.delivery <> a.id;
			IF some_ids IS NOT NULL THEN
				-- One that no longer makes others duplicates gives way.
				UPDATE hubhook.webhook w SET delivery = a.id
				FROM unnest(arrival_id, arrival_hash, arrival_round, arrival_since) AS a (id, hash, round, since)
				WHERE a.round = this_round AND w.hash = a.hash AND w.delivery <> a.id AND NOT EXISTS (
					SELECT FROM hubhook.delivery d WHERE d.id = w.delivery AND (
						d.state < {done}
						OR d.state = {merged} AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst)
						OR d.state NOT IN ({dead}, {discarded}) AND a.since <> 0 AND d.received >= a.since AND NOT EXISTS (
							SELECT FROM hubhook.delivery s WHERE s.burst = d.burst AND s.state IN ({dead}, {discarded}))
					)
				);
				SELECT array_agg(a.place), array_agg(w.delivery) INTO some_places, some_ids
				FROM unnest(arrival_id, arrival_hash, arrival_round) WITH ORDINALITY AS a (id, hash, round, place)
				JOIN hubhook.webhook w ON w.hash = a.hash
				WHERE a.round = this_round AND a.hash IS NOT NULL AND w.delivery <> a.id;
			END IF;
			IF some_ids IS NOT NULL THEN
				-- Who has one of these may be waiting for one that ends here. So the commit is given up and made again, instead
				-- of waiting for the server to notice.
				PERFORM FROM hubhook.delivery d WHERE d.id = ANY (some_ids) ORDER BY d.id FOR NO KEY UPDATE NOWAIT;
				UPDATE hubhook.delivery d SET duplicates = d.duplicates + x.n
				FROM (SELECT id, count(*) AS n FROM unnest(some_ids) AS f (id) GROUP BY id ORDER BY id) x WHERE d.id = x.id;
				duplicates := some_places;
				r_kinds := r_kinds || array_fill({row.first}::bigint, ARRAY[cardinality(some_ids)]);
				r_places := r_places || some_places; r_ids := r_ids || some_ids;
				r_ats := r_ats || array_fill(0::bigint, ARRAY[cardinality(some_ids)]);
			END IF;
		END IF;

		IF cardinality(burst_key) > 0 THEN
			WITH a AS (
				SELECT * FROM unnest(arrival_id, arrival_endpoint, arrival_received, arrival_key, arrival_round)
				WITH ORDINALITY AS a (id, endpoint, received, key, round, place)
				WHERE round = this_round AND key <> 0 AND place <> ALL (duplicates)
			), old AS (
				SELECT a.place, a.id AS arrival_id, u.id, u.endpoint, b.burst, b.received
				FROM a JOIN hubhook.burst b ON b.endpoint = a.endpoint AND b.key = a.key JOIN hubhook.unfinished u ON u.id = b.last
				WHERE u.state + 0 = {waiting} AND NOT u.started
				FOR UPDATE OF u
			), gone AS (
				DELETE FROM hubhook.unfinished u USING old WHERE u.id = old.id
			), changed AS (
				UPDATE hubhook.delivery d SET state = {merged}, unusual = {merged}, merged_into = old.arrival_id FROM old WHERE d.id = old.id
			), tallied AS (
				INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
				SELECT endpoint, state, slot, sum(n) FROM (
					SELECT endpoint, {merged} AS state, 1 AS n FROM old UNION ALL SELECT endpoint, {waiting}, -1 FROM old
				) x GROUP BY 1, 2
				ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
			), went_on AS (
				UPDATE hubhook.burst b SET last = a.id, burst = coalesce(old.burst, a.id), received = coalesce(old.received, a.received)
				FROM a LEFT JOIN old ON old.place = a.place WHERE b.endpoint = a.endpoint AND b.key = a.key
			)
			SELECT array_agg(place), array_agg(id) INTO some_places, some_ids FROM old;
			r_kinds := r_kinds || array_fill({row.merged}::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
			r_places := r_places || some_places; r_ids := r_ids || some_ids;
			r_ats := r_ats || array_fill(0::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
		END IF;

		WITH a AS (
			SELECT a.*,
				CASE WHEN key <> 0 THEN (SELECT b.burst FROM hubhook.burst b WHERE b.endpoint = a.endpoint AND b.key = a.key) END AS burst,
				CASE WHEN key <> 0 THEN least(received + wait, (
					SELECT b.received + a.max_wait FROM hubhook.burst b WHERE b.endpoint = a.endpoint AND b.key = a.key AND a.max_wait <> 0
				)) ELSE received END AS run_at
			FROM unnest(arrival_round, arrival_id, arrival_endpoint, arrival_state, arrival_received, arrival_started, arrival_attempts, arrival_token, arrival_serial,
				arrival_synthetic, arrival_replay_of, arrival_scope, arrival_action, arrival_repo_type, arrival_repo_name, arrival_webhook_id, arrival_reason, arrival_stack,
				arrival_header, arrival_body, arrival_encoding, arrival_key, arrival_wait, arrival_max_wait)
			WITH ORDINALITY AS a (round, id, endpoint, state, received, started, attempts, token, serial, synthetic, replay_of, scope,
				action, repo_type, repo_name, webhook_id, reason, stack, header, body, encoding, key, wait, max_wait, place)
			WHERE round = this_round AND place <> ALL (duplicates)
		), d AS (
			INSERT INTO hubhook.delivery (id, endpoint, received, started, replay_of, burst, state, unusual, synthetic, attempts,
				scope, action, repo_type, repo_name, webhook_id, reason)
			SELECT id, endpoint, received, nullif(started, 0), replay_of, burst, state, CASE WHEN state > {done} THEN state END, synthetic,
				attempts, nullif(scope, ''), nullif(action, ''), nullif(repo_type, ''), nullif(repo_name, ''), nullif(webhook_id, ''),
				nullif(reason, '')
			FROM a
		), c AS (
			INSERT INTO hubhook.content (id, header, body, encoding) SELECT id, header, body, encoding FROM a
		), u AS (
			INSERT INTO hubhook.unfinished (id, endpoint, serial, run_at, token, lease, burst, state, suspect, started)
			SELECT id, endpoint, serial, run_at, CASE WHEN state = {running} THEN token END, CASE WHEN state = {running} THEN lease_end END, burst,
				state, false, state = {running}
			FROM a WHERE state < {done}
		), n AS (
			INSERT INTO hubhook.attempt (delivery, n, started, duration, error, stack)
			SELECT id, 1, received, 0, nullif(reason, ''), stack FROM a WHERE stack <> ''
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n) SELECT endpoint, state, slot, count(*) FROM a GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT array_agg(place) FILTER (WHERE key <> 0), array_agg(id) FILTER (WHERE key <> 0), array_agg(run_at) FILTER (WHERE key <> 0),
			array_agg(endpoint) FILTER (WHERE serial <> 0), array_agg(serial) FILTER (WHERE serial <> 0)
		INTO some_places, some_ids, some_ats, some_endpoints, some_keys FROM a;
		IF some_ids IS NOT NULL THEN
			r_kinds := r_kinds || array_fill({row.burst}::bigint, ARRAY[cardinality(some_ids)]);
			r_places := r_places || some_places; r_ids := r_ids || some_ids; r_ats := r_ats || some_ats;
		END IF;
		series_endpoints := series_endpoints || some_endpoints;
		series_keys := series_keys || some_keys;
	END LOOP;
	IF array_remove(arrival_replay_of, NULL) <> '{}' THEN
		PERFORM FROM hubhook.delivery d WHERE d.id = ANY (arrival_replay_of) ORDER BY d.id FOR NO KEY UPDATE NOWAIT;
		UPDATE hubhook.delivery d SET replays = d.replays + x.n
		FROM (SELECT id, count(*) AS n FROM unnest(arrival_replay_of) AS f (id) WHERE id IS NOT NULL GROUP BY id ORDER BY id) x
		WHERE d.id = x.id;
	END IF;

	IF cardinality(series_keys) > 0 THEN
		PERFORM hubhook.series_1(series_endpoints, series_keys);
		SELECT array_agg(a.place), array_agg(a.id) INTO some_places, some_ids
		FROM unnest(arrival_id, arrival_endpoint, arrival_serial) WITH ORDINALITY AS a (id, endpoint, serial, place)
		JOIN hubhook.series s ON s.endpoint = a.endpoint AND s.key = a.serial
		WHERE a.serial <> 0 AND (s.held OR a.id <> (
			SELECT u.id FROM hubhook.unfinished u
			WHERE u.endpoint = a.endpoint AND u.serial = a.serial AND u.serial <> 0 AND u.state <> {running} ORDER BY u.run_at, u.id LIMIT 1));
		r_kinds := r_kinds || array_fill({row.behind}::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
		r_places := r_places || some_places; r_ids := r_ids || some_ids;
		r_ats := r_ats || array_fill(0::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
	END IF;
	IF cardinality(r_kinds) > 0 THEN
		UPDATE hubhook.writer SET kinds = r_kinds, places = r_places, ids = r_ids, ats = r_ats WHERE process = my_process;
		RETURN QUERY SELECT * FROM hubhook.rows_1(r_kinds, r_places, r_ids, r_ats);
	END IF;
END $$;
