-- row_1 is a row that functions return: its kind, and a delivery with the columns that this kind needs.
CREATE TYPE hubhook.row_1 AS (
	kind bigint, place bigint, at bigint,
	id uuid, endpoint bigint, state smallint, received bigint, attempts integer, failures integer, interruptions integer,
	duplicates integer, replays integer, synthetic boolean, started bigint, duration bigint, run_at bigint, replay_of uuid,
	merged_into uuid, scope text, action text, repo_type text, repo_name text, webhook_id text, reason text,
	burst uuid, token bigint, serial bigint, merged uuid[], header bytea, body bytea, encoding smallint
);

-- rows_1 returns deliveries as rows: each with its kind, the place of its change in the batch, and a number.
CREATE FUNCTION hubhook.rows_1(kinds bigint[], places bigint[], ids uuid[], ats bigint[]) RETURNS SETOF hubhook.row_1 LANGUAGE sql STABLE AS $$
	SELECT r.kind, r.place, r.at,
		r.id, d.endpoint, d.state, d.received, d.attempts, d.failures, d.interruptions,
		d.duplicates, d.replays, d.synthetic, d.started, d.duration, d.run_at, d.replay_of,
		d.merged_into, d.scope, d.action, d.repo_type, d.repo_name, d.webhook_id, d.reason,
		d.burst, d.token, NULL::bigint, NULL::uuid[], NULL::bytea, NULL::bytea, NULL::smallint
	FROM unnest(kinds, places, ids, ats) AS r (kind, place, id, at) LEFT JOIN hubhook.delivery d ON d.id = r.id
$$;
