
-- arrive_3 is commit_3 for one arrival and nothing else, which must be the first with its Webhook-Id, have neither a serial key nor a burst,
-- and replay nothing. commit_3 takes arrays, and to take fifty of them costs more than to store one delivery.
CREATE FUNCTION hubhook.arrive_3(
	sync text, my_process integer, my_epoch bigint, my_batch bigint, lease_for bigint, hash uuid, keep bigint,
	id uuid, endpoint bigint, state bigint, received bigint, started bigint, attempts bigint, token bigint, synthetic boolean,
	scope text, action text, repo_type text, repo_name text, webhook_id text, reason text, header bytea, body bytea, encoding bigint
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_variable
BEGIN
	IF sync <> '' THEN
		PERFORM set_config('synchronous_commit', sync, true);
	END IF;
	UPDATE hubhook.writer SET batch = my_batch, kinds = NULL, places = NULL, ids = NULL, ats = NULL WHERE process = my_process AND epoch = my_epoch;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'another connection of this process stores deliveries by now' USING ERRCODE = 'HH001';
	END IF;
	IF hash IS NOT NULL THEN
		INSERT INTO hubhook.webhook (hash, delivery, keep) VALUES (hash, id, keep) ON CONFLICT DO NOTHING;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'there is a delivery with this Webhook-Id' USING ERRCODE = 'HH003';
		END IF;
	END IF;
	INSERT INTO hubhook.delivery (id, endpoint, received, started, state, unusual, synthetic, attempts,
		scope, action, repo_type, repo_name, webhook_id, reason)
	VALUES (id, endpoint, received, nullif(started, 0), state, CASE WHEN state > {done} THEN state END, synthetic, attempts,
		nullif(scope, ''), nullif(action, ''), nullif(repo_type, ''), nullif(repo_name, ''), nullif(webhook_id, ''), nullif(reason, ''));
	INSERT INTO hubhook.content (id, header, body, encoding) VALUES (id, header, body, encoding);
	IF state < {done} THEN
		INSERT INTO hubhook.unfinished (id, endpoint, serial, run_at, token, lease, state, suspect, started)
		VALUES (id, endpoint, 0, received, CASE WHEN state = {running} THEN token END,
			CASE WHEN state = {running} THEN hubhook.now_1() + lease_for END, state, false, state = {running});
	END IF;
	INSERT INTO hubhook.tally AS t (endpoint, state, slot, n) VALUES (endpoint, state, my_process * 2, 1)
	ON CONFLICT ON CONSTRAINT tally_pkey DO UPDATE SET n = t.n + 1;
END $$;
