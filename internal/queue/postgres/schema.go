package postgres

// migration brings the schema from one version to the next.
type migration struct {
	sql string
	// reader is the least version that a process must know to work with the schema after this step. Processes of the
	// version before go on beside those that migrate: a step adds, and keeps what they use. Functions have the version that
	// made them in their name for that, and go with the step that raises reader beyond the last one that calls them.
	reader int
}

// migrations are those steps; hubhook.version says how many have been made. What is here stays as it is: a change
// of the schema is a new entry at the end.
var migrations = []migration{{schema1 + commit1 + claim1 + rest1, 1}}

// The tables. Deliveries are narrow rows, since lists read them by the thousand, and no index has a column that changes
// when a delivery runs and succeeds: such an update stays within its page and touches no index. What must be found by its
// state is in the table unfinished, which is as small as the work that is left.
//
// Times are Unix nanoseconds of this server's clock. Numbers that stand for texts are hashes. A text that PostgreSQL would
// refuse is escaped.
const schema1 = `
CREATE TABLE hubhook.endpoint (id bigint PRIMARY KEY, name text NOT NULL);

CREATE TABLE hubhook.delivery (
	id            uuid PRIMARY KEY,
	endpoint      bigint NOT NULL,
	received      bigint NOT NULL,
	started       bigint,
	duration      bigint,
	run_at        bigint, -- while it is retrying
	token         bigint, -- of the claim that ran when it was discarded
	replay_of     uuid,
	merged_into   uuid,
	burst         uuid, -- the first delivery of its burst
	state         smallint NOT NULL,
	unusual       smallint, -- the state, from dead on
	synthetic     boolean NOT NULL,
	attempts      integer NOT NULL,
	failures      integer NOT NULL DEFAULT 0,
	interruptions integer NOT NULL DEFAULT 0,
	duplicates    integer NOT NULL DEFAULT 0,
	replays       integer NOT NULL DEFAULT 0,
	scope         text,
	action        text,
	repo_type     text,
	repo_name     text,
	webhook_id    text,
	reason        text
) WITH (fillfactor = 75);
CREATE INDEX delivery_unusual ON hubhook.delivery (unusual, id) WHERE unusual IS NOT NULL;
CREATE INDEX delivery_burst ON hubhook.delivery (burst) WHERE burst IS NOT NULL;

CREATE TABLE hubhook.content (id uuid PRIMARY KEY, header bytea, body bytea, encoding smallint NOT NULL);
-- Large bodies come compressed.
ALTER TABLE hubhook.content ALTER COLUMN header SET STORAGE EXTERNAL, ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE hubhook.attempt (
	delivery uuid NOT NULL,
	n        integer NOT NULL,
	started  bigint NOT NULL,
	duration bigint NOT NULL,
	error    text,
	stack    text,
	output   bytea,
	result   bytea,
	PRIMARY KEY (delivery, n)
);

-- What is still to be done. serial is 0 for none; lease ends a claim that nobody renews.
CREATE TABLE hubhook.unfinished (
	id       uuid PRIMARY KEY,
	endpoint bigint NOT NULL,
	serial   bigint NOT NULL,
	run_at   bigint NOT NULL,
	token    bigint,
	lease    bigint,
	burst    uuid,
	state    smallint NOT NULL,
	suspect  boolean NOT NULL, -- interrupted so often that it is started alone
	started  boolean NOT NULL  -- at least once
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.1);
CREATE INDEX unfinished_due ON hubhook.unfinished (endpoint, suspect, run_at, id) WHERE state <> 1 AND serial = 0;
CREATE INDEX unfinished_serial ON hubhook.unfinished (endpoint, serial, run_at, id) WHERE state <> 1 AND serial <> 0;
CREATE INDEX unfinished_held ON hubhook.unfinished (endpoint, serial) WHERE state = 1 AND serial <> 0;
CREATE INDEX unfinished_waiting ON hubhook.unfinished (endpoint, id) WHERE state = 0;
CREATE INDEX unfinished_suspect ON hubhook.unfinished (endpoint, run_at) WHERE suspect AND state <> 1 AND serial = 0;
CREATE INDEX unfinished_lease ON hubhook.unfinished (lease) WHERE state = 1;
CREATE INDEX unfinished_burst ON hubhook.unfinished (burst) WHERE burst IS NOT NULL;

-- One row for each serial key: whether one with it runs, and the first of those that wait, so that finding work takes as
-- long with one waiting delivery for each key as with all of them for one.
CREATE TABLE hubhook.series (
	endpoint bigint NOT NULL,
	key      bigint NOT NULL,
	held     boolean NOT NULL,
	suspect  boolean NOT NULL,
	run_at   bigint, -- NULL: none waits
	PRIMARY KEY (endpoint, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX series_due ON hubhook.series (endpoint, suspect, run_at) WHERE NOT held AND run_at IS NOT NULL;
CREATE INDEX series_suspect ON hubhook.series (endpoint, run_at) WHERE suspect AND NOT held;

-- The last delivery of each burst.
CREATE TABLE hubhook.burst (
	endpoint bigint NOT NULL,
	key      bigint NOT NULL,
	last     uuid,
	burst    uuid,
	received bigint, -- when the burst's first one was
	PRIMARY KEY (endpoint, key)
) WITH (fillfactor = 70);

-- The delivery that one with the same Webhook-Id is a duplicate of, by a hash of endpoint and Webhook-Id. It is kept apart
-- and for as long as it may be needed: an index over all deliveries' would be written at random pages.
CREATE TABLE hubhook.webhook (hash uuid PRIMARY KEY, delivery uuid NOT NULL, keep bigint NOT NULL);
CREATE INDEX webhook_keep ON hubhook.webhook (keep);

-- How many deliveries there are, as the sum over slots. Each process writes to slots of its own, so that none waits for
-- another one's commit.
CREATE TABLE hubhook.tally (
	endpoint bigint NOT NULL,
	state    smallint NOT NULL,
	slot     integer NOT NULL,
	n        bigint NOT NULL,
	PRIMARY KEY (endpoint, state, slot)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE hubhook.process (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seen bigint NOT NULL) WITH (fillfactor = 30);

-- What a process last stored. epoch grows with each of its connections that stores: a commit of an earlier one that is
-- still under way somewhere is waited for, or refused. The arrays are what the batch's commit returned.
CREATE TABLE hubhook.writer (
	process integer PRIMARY KEY,
	epoch   bigint NOT NULL,
	batch   bigint NOT NULL,
	kinds   bigint[],
	places  bigint[],
	ids     uuid[],
	ats     bigint[]
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- What functions return: a delivery, as far as it is known, and what it is returned for.
CREATE TYPE hubhook.row_1 AS (
	kind bigint, place bigint, at bigint,
	id uuid, endpoint bigint, state smallint, received bigint, attempts integer, failures integer, interruptions integer,
	duplicates integer, replays integer, synthetic boolean, started bigint, duration bigint, run_at bigint, replay_of uuid,
	merged_into uuid, scope text, action text, repo_type text, repo_name text, webhook_id text, reason text,
	burst uuid, token bigint, serial bigint, merged uuid[], header bytea, body bytea, encoding smallint
);

CREATE FUNCTION hubhook.now_1() RETURNS bigint LANGUAGE sql VOLATILE AS $$
	SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000
$$;

-- rows_1 returns deliveries, each for a reason: what was done, the place of the change that did it, and a number.
CREATE FUNCTION hubhook.rows_1(kinds bigint[], places bigint[], ids uuid[], ats bigint[]) RETURNS SETOF hubhook.row_1 LANGUAGE sql STABLE AS $$
	SELECT r.kind, r.place, r.at,
		r.id, d.endpoint, d.state, d.received, d.attempts, d.failures, d.interruptions,
		d.duplicates, d.replays, d.synthetic, d.started, d.duration, d.run_at, d.replay_of,
		d.merged_into, d.scope, d.action, d.repo_type, d.repo_name, d.webhook_id, d.reason,
		d.burst, d.token, NULL::bigint, NULL::uuid[], NULL::bytea, NULL::bytea, NULL::smallint
	FROM unnest(kinds, places, ids, ats) AS r (kind, place, id, at) LEFT JOIN hubhook.delivery d ON d.id = r.id
$$;

-- series_1 brings the rows of serial keys up to date, after what happened to deliveries with them. It locks them in order.
CREATE FUNCTION hubhook.series_1(endpoints bigint[], keys bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO hubhook.series AS s (endpoint, key, held, suspect)
	SELECT DISTINCT k.endpoint, k.key, false, false FROM unnest(endpoints, keys) AS k (endpoint, key) ORDER BY 1, 2
	ON CONFLICT (endpoint, key) DO UPDATE SET held = s.held;
	-- A statement of its own, because it must see what those did who had the locks until now.
	UPDATE hubhook.series s SET
		held = EXISTS (SELECT FROM hubhook.unfinished u WHERE u.endpoint = s.endpoint AND u.serial = s.key AND u.serial <> 0 AND u.state = 1),
		(run_at, suspect) = (
			SELECT min(head.run_at), coalesce(bool_or(head.suspect), false) FROM (
				SELECT u.run_at, u.suspect FROM hubhook.unfinished u
				WHERE u.endpoint = s.endpoint AND u.serial = s.key AND u.serial <> 0 AND u.state <> 1
				ORDER BY u.run_at, u.id LIMIT 1
			) head
		)
	FROM (SELECT DISTINCT k.endpoint, k.key FROM unnest(endpoints, keys) AS k (endpoint, key)) k
	WHERE s.endpoint = k.endpoint AND s.key = k.key;
END $$;
`

// commit_1 makes the changes of a batch: ends, discards, arrivals. Arrivals with one Webhook-Id or burst key come in rounds,
// so that each statement meets a key at most once. All keys are locked in order before.
//
// Plans are made for any number of rows, so searches through whole tables are ruled out: while a table is young, they look cheap.
const commit1 = `
CREATE FUNCTION hubhook.commit_1(
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
			DELETE FROM hubhook.unfinished u USING e WHERE u.id = e.id AND u.token = e.token AND u.state = 1 AND e.state >= 3
			RETURNING e.*, u.endpoint, u.serial
		), back AS (
			UPDATE hubhook.unfinished u SET state = e.state, run_at = e.run_at, token = NULL, lease = NULL
			FROM e WHERE u.id = e.id AND u.token = e.token AND u.state = 1 AND e.state < 3
			RETURNING e.*, u.endpoint, u.serial
		), kept AS (
			SELECT * FROM finished UNION ALL SELECT * FROM back
		), changed AS (
			UPDATE hubhook.delivery d SET state = k.state, unusual = CASE WHEN k.state > 3 THEN k.state END,
				reason = nullif(k.reason, ''), failures = k.failures, attempts = k.attempts, duration = k.duration,
				started = CASE WHEN k.n > 0 THEN k.started ELSE d.started END, run_at = CASE WHEN k.state = 2 THEN k.run_at END
			FROM kept k WHERE d.id = k.id
		), noted AS (
			INSERT INTO hubhook.attempt (delivery, n, started, duration, error, stack, output, result)
			SELECT id, n, started, duration, nullif(error, ''), nullif(stack, ''), output, result FROM kept
			-- The delivery's own row says all there is to say of a plain success.
			WHERE n > 0 AND NOT (state = 3 AND n = attempts AND error = '' AND stack = '' AND output IS NULL AND result IS NULL)
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
			SELECT endpoint, state, slot, sum(n) FROM (
				SELECT endpoint, state, 1 AS n FROM kept UNION ALL SELECT endpoint, 1, -1 FROM kept
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
				WHERE d.id = e.id AND d.state = 7 AND d.token = e.token AND e.was = 7
				RETURNING e.*
			), noted AS (
				INSERT INTO hubhook.attempt (delivery, n, started, duration, error, stack, output, result)
				SELECT id, n, started, duration, nullif(error, ''), nullif(stack, ''), output, result FROM changed WHERE n > 0
			)
			SELECT done || coalesce(array_agg(place), '{}') INTO done FROM changed;
			SELECT array_agg(place), array_agg(id) INTO some_places, some_ids
			FROM unnest(end_id) WITH ORDINALITY AS e (id, place) WHERE place <> ALL (done);
			r_kinds := r_kinds || array_fill(1::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
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
			UPDATE hubhook.delivery d SET state = 7, unusual = 7, reason = nullif(g.reason, ''), run_at = NULL, token = g.token
			FROM gone g WHERE d.id = g.id
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
			SELECT endpoint, state, slot, sum(n) FROM (
				SELECT endpoint, 7 AS state, 1 AS n FROM gone UNION ALL SELECT endpoint, state, -1 FROM gone
			) x GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT array_agg(place), array_agg(id), array_agg(state),
			array_agg(endpoint) FILTER (WHERE serial <> 0), array_agg(serial) FILTER (WHERE serial <> 0)
		INTO some_places, some_ids, some_ats, some_endpoints, some_keys FROM gone;
		r_kinds := r_kinds || array_fill(2::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
		r_places := r_places || some_places; r_ids := r_ids || some_ids; r_ats := r_ats || some_ats;
		series_endpoints := series_endpoints || some_endpoints;
		series_keys := series_keys || some_keys;
		done := coalesce(some_places, '{}');
		SELECT array_agg(x.place), array_agg(x.id), array_agg(d.state) INTO some_places, some_ids, some_ats
		FROM unnest(discard_id) WITH ORDINALITY AS x (id, place) JOIN hubhook.delivery d ON d.id = x.id WHERE x.place <> ALL (done);
		r_kinds := r_kinds || array_fill(2::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
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
						d.state < 3
						OR d.state = 6 AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst)
						OR d.state NOT IN (4, 7) AND a.since <> 0 AND d.received >= a.since AND NOT EXISTS (
							SELECT FROM hubhook.delivery s WHERE s.burst = d.burst AND s.state IN (4, 7))
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
				r_kinds := r_kinds || array_fill(3::bigint, ARRAY[cardinality(some_ids)]);
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
				WHERE u.state = 0 AND NOT u.started
				FOR UPDATE OF u
			), gone AS (
				DELETE FROM hubhook.unfinished u USING old WHERE u.id = old.id
			), changed AS (
				UPDATE hubhook.delivery d SET state = 6, unusual = 6, merged_into = old.arrival_id FROM old WHERE d.id = old.id
			), tallied AS (
				INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
				SELECT endpoint, state, slot, sum(n) FROM (
					SELECT endpoint, 6 AS state, 1 AS n FROM old UNION ALL SELECT endpoint, 0, -1 FROM old
				) x GROUP BY 1, 2
				ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
			), went_on AS (
				UPDATE hubhook.burst b SET last = a.id, burst = coalesce(old.burst, a.id), received = coalesce(old.received, a.received)
				FROM a LEFT JOIN old ON old.place = a.place WHERE b.endpoint = a.endpoint AND b.key = a.key
			)
			SELECT array_agg(place), array_agg(id) INTO some_places, some_ids FROM old;
			r_kinds := r_kinds || array_fill(4::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
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
			SELECT id, endpoint, received, nullif(started, 0), replay_of, burst, state, CASE WHEN state > 3 THEN state END, synthetic,
				attempts, nullif(scope, ''), nullif(action, ''), nullif(repo_type, ''), nullif(repo_name, ''), nullif(webhook_id, ''),
				nullif(reason, '')
			FROM a
		), c AS (
			INSERT INTO hubhook.content (id, header, body, encoding) SELECT id, header, body, encoding FROM a
		), u AS (
			INSERT INTO hubhook.unfinished (id, endpoint, serial, run_at, token, lease, burst, state, suspect, started)
			SELECT id, endpoint, serial, run_at, CASE WHEN state = 1 THEN token END, CASE WHEN state = 1 THEN lease_end END, burst,
				state, false, state = 1
			FROM a WHERE state < 3
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
			r_kinds := r_kinds || array_fill(5::bigint, ARRAY[cardinality(some_ids)]);
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
			WHERE u.endpoint = a.endpoint AND u.serial = a.serial AND u.serial <> 0 AND u.state <> 1 ORDER BY u.run_at, u.id LIMIT 1));
		r_kinds := r_kinds || array_fill(6::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
		r_places := r_places || some_places; r_ids := r_ids || some_ids;
		r_ats := r_ats || array_fill(0::bigint, ARRAY[coalesce(cardinality(some_ids), 0)]);
	END IF;
	IF cardinality(r_kinds) > 0 THEN
		UPDATE hubhook.writer SET kinds = r_kinds, places = r_places, ids = r_ids, ats = r_ats WHERE process = my_process;
		RETURN QUERY SELECT * FROM hubhook.rows_1(r_kinds, r_places, r_ids, r_ats);
	END IF;
END $$;
`

// claim_1 makes deliveries whose lease has ended wait or dead, and then starts what is due of some endpoints. It never waits
// for a lock that someone else has.
const claim1 = `
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
			SELECT u.id FROM hubhook.unfinished u WHERE u.state = 1 AND u.lease < now_ns ORDER BY u.lease LIMIT 200 FOR UPDATE SKIP LOCKED
		), dead AS (
			DELETE FROM hubhook.unfinished u USING ended, hubhook.delivery d
			WHERE u.id = ended.id AND d.id = ended.id AND d.interruptions + 1 >= dead_after
			RETURNING u.id, u.endpoint, u.serial, 4 AS state
		), waits AS (
			UPDATE hubhook.unfinished u SET state = 0, run_at = 0, token = NULL, lease = NULL, suspect = d.interruptions + 1 >= alone_after
			FROM ended, hubhook.delivery d WHERE u.id = ended.id AND d.id = ended.id AND d.interruptions + 1 < dead_after
			RETURNING u.id, u.endpoint, u.serial, 0 AS state
		), taken AS (
			SELECT * FROM dead UNION ALL SELECT * FROM waits
		), changed AS (
			UPDATE hubhook.delivery d SET interruptions = d.interruptions + 1, state = t.state, unusual = nullif(t.state, 0),
				reason = CASE WHEN t.state = 4 THEN died END
			FROM taken t WHERE d.id = t.id
			RETURNING d.id, d.attempts, d.started
		), noted AS (
			INSERT INTO hubhook.attempt (delivery, n, started, duration, error)
			SELECT id, attempts, coalesce(started, 0), 0, interrupted FROM changed ON CONFLICT DO NOTHING
		), tallied AS (
			INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
			SELECT endpoint, state, slot, sum(n) FROM (
				SELECT endpoint, state, 1 AS n FROM taken UNION ALL SELECT endpoint, 1, -1 FROM taken
			) x GROUP BY 1, 2
			ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
		)
		SELECT array_agg(id), array_agg(endpoint) FILTER (WHERE serial <> 0), array_agg(serial) FILTER (WHERE serial <> 0)
		INTO some_ids, some_endpoints, some_keys FROM taken;
		IF some_ids IS NOT NULL THEN
			RETURN QUERY SELECT * FROM hubhook.rows_1(array_fill(13::bigint, ARRAY[cardinality(some_ids)]), NULL, some_ids, NULL);
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
				WHERE u.endpoint = w.endpoint AND u.serial = k.key AND u.serial <> 0 AND u.state <> 1 AND u.run_at <= now_ns
					AND u.suspect = w.suspects
				ORDER BY u.run_at, u.id LIMIT 1 FOR UPDATE SKIP LOCKED
			) head
		);
		plain := ARRAY(
			SELECT u.id FROM hubhook.unfinished u
			WHERE u.endpoint = w.endpoint AND u.suspect = w.suspects AND u.serial = 0 AND u.state <> 1 AND u.run_at <= now_ns
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
				UPDATE hubhook.unfinished u SET state = 1, token = first_token + c.place, lease = now_ns + lease_for, started = true
				FROM c WHERE u.id = c.id
				RETURNING u.id, u.token, u.serial, u.burst, c.place, c.state
			), bursts AS (
				UPDATE hubhook.delivery d SET merged_into = u.id FROM u WHERE u.burst IS NOT NULL AND d.burst = u.burst AND d.id <> u.id AND d.merged_into <> u.id
			), d AS (
				UPDATE hubhook.delivery d SET state = 1, attempts = d.attempts + 1, started = now_ns, run_at = NULL
				FROM u WHERE d.id = u.id
				RETURNING d.*, u.token AS claim, u.serial, u.place
			), tallied AS (
				INSERT INTO hubhook.tally AS t (endpoint, state, slot, n)
				SELECT w.endpoint, state, slot, sum(n) FROM (
					SELECT 1 AS state, 1 AS n FROM u UNION ALL SELECT state, -1 FROM u
				) x GROUP BY 2
				ON CONFLICT (endpoint, state, slot) DO UPDATE SET n = t.n + excluded.n
			)
			SELECT 10::bigint, d.place, 0::bigint,
				d.id, d.endpoint, d.state, d.received, d.attempts, d.failures, d.interruptions,
				d.duplicates, d.replays, d.synthetic, d.started, d.duration, d.run_at, d.replay_of,
				d.merged_into, d.scope, d.action, d.repo_type, d.repo_name, d.webhook_id, d.reason,
				d.burst, d.claim, d.serial,
				CASE WHEN d.burst IS NOT NULL THEN ARRAY(SELECT m.id FROM hubhook.delivery m WHERE m.burst = d.burst AND m.state = 6 ORDER BY m.id) END,
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
		r.kind := 11;
		r.endpoint := w.endpoint;
		r.place := (got >= w.n AND (
			EXISTS (SELECT FROM hubhook.unfinished u WHERE u.endpoint = w.endpoint AND NOT u.suspect AND u.serial = 0 AND u.state <> 1 AND u.run_at <= now_ns)
			OR EXISTS (SELECT FROM hubhook.series s WHERE s.endpoint = w.endpoint AND NOT s.suspect AND NOT s.held AND s.run_at <= now_ns)))::integer;
		RETURN NEXT r;
		FOR i IN 0 .. 1 LOOP
			SELECT min(run_at) INTO next_at FROM (
				(SELECT u.run_at FROM hubhook.unfinished u
				WHERE u.endpoint = w.endpoint AND u.suspect = (i = 1) AND u.serial = 0 AND u.state <> 1 AND u.run_at > now_ns ORDER BY u.run_at LIMIT 1)
				UNION ALL
				(SELECT s.run_at FROM hubhook.series s
				WHERE s.endpoint = w.endpoint AND s.suspect = (i = 1) AND NOT s.held AND s.run_at > now_ns ORDER BY s.run_at LIMIT 1)
			) x;
			soonest := least(soonest, next_at);
		END LOOP;
	END LOOP;
	FOR w IN
		SELECT DISTINCT endpoint FROM (
			SELECT u.endpoint FROM hubhook.unfinished u WHERE u.suspect AND u.serial = 0 AND u.state <> 1 AND u.run_at <= now_ns
			UNION ALL SELECT s.endpoint FROM hubhook.series s WHERE s.suspect AND NOT s.held AND s.run_at <= now_ns
		) x
	LOOP
		r := nothing;
		r.kind := 14;
		r.endpoint := w.endpoint;
		RETURN NEXT r;
	END LOOP;
	FOR w IN SELECT endpoint FROM hubhook.tally WHERE state = 0 GROUP BY endpoint HAVING sum(n) > 0 LOOP
		r := nothing;
		r.kind := 15;
		r.endpoint := w.endpoint;
		SELECT u.id INTO r.id FROM hubhook.unfinished u WHERE u.endpoint = w.endpoint AND u.state = 0 ORDER BY u.id LIMIT 1;
		RETURN NEXT r;
	END LOOP;
	r := nothing;
	r.kind := 12;
	r.at := soonest;
	SELECT coalesce(sum(n), 0) INTO r.place FROM hubhook.tally WHERE state = 0;
	RETURN NEXT r;
END $$;
`

const rest1 = `
-- renew_1 extends the leases of claims by name, and returns those that are gone.
CREATE FUNCTION hubhook.renew_1(my_process integer, ids uuid[], tokens bigint[], lease_for bigint) RETURNS SETOF hubhook.row_1 LANGUAGE plpgsql
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
		WHERE u.token = c.token AND u.state = 1 FOR UPDATE OF u SKIP LOCKED
	)
	UPDATE hubhook.unfinished u SET lease = now_ns + lease_for FROM mine WHERE u.id = mine.id;
	RETURN QUERY SELECT r.* FROM unnest(ids, tokens) WITH ORDINALITY AS c (id, token, place),
		LATERAL hubhook.rows_1(ARRAY[20::bigint], ARRAY[c.place], ARRAY[c.id], ARRAY[0::bigint]) r
	-- One that is not there at all is still about to be stored.
	WHERE r.state IS NOT NULL AND NOT EXISTS (SELECT FROM hubhook.unfinished u WHERE u.id = c.id AND u.token = c.token);
	r.kind := 21;
	r.at := now_ns;
	SELECT count(*) INTO r.place FROM hubhook.process WHERE id <> my_process AND seen > now_ns - 30000000000;
	RETURN NEXT r;
END $$;

-- connect_1 makes the calling connection the only one that may store for its process, and takes back the given arrivals of an
-- earlier one whose commit's answer was lost. Nothing is taken back that someone has begun to rely on: what others were
-- merged into or answered as duplicates of, and what another process has started.
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
			WHERE u.id = a.id AND (u.state = 0 AND NOT u.started OR u.state = 1 AND u.token = a.token)
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

-- sweep_1 removes up to max_rows deliveries that need not be kept, and some of what else nobody needs any more. It returns how
-- many deliveries it has removed, and -1 if another process is at it.
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
		SELECT d.id FROM hubhook.delivery d WHERE d.id < before AND d.state >= 3
			AND NOT (d.state = 6 AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst))
		ORDER BY d.id LIMIT max_rows FOR UPDATE SKIP LOCKED
	);
	SELECT coalesce(sum(n), 0) - keep_count INTO excess FROM hubhook.tally WHERE state IN (3, 5, 6, 7);
	excess := least(excess - cardinality(old), max_rows - cardinality(old));
	IF excess > 0 THEN
		many := ARRAY(
			SELECT d.id FROM hubhook.delivery d WHERE d.id >= before AND d.state IN (3, 5, 6, 7)
				AND NOT (d.state = 6 AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst))
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
				AND (d.state < 3 OR d.state = 6 AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst)))
		RETURNING t.hash
	)
	DELETE FROM hubhook.webhook t USING w WHERE t.hash = w.hash AND NOT EXISTS (
		SELECT FROM hubhook.delivery d WHERE d.id = t.delivery
			AND (d.state < 3 OR d.state = 6 AND EXISTS (SELECT FROM hubhook.unfinished u WHERE u.burst = d.burst)));
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
`
