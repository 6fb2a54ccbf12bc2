-- What those who make deliveries have seen so far.
CREATE TABLE hubhook.mark (key text COLLATE "C" PRIMARY KEY, version bigint NOT NULL, value bytea NOT NULL) WITH (fillfactor = 50);

-- The leader of each task, until its lease ends unless it is renewed.
CREATE TABLE hubhook.leader (task text PRIMARY KEY, token bigint NOT NULL, lease bigint NOT NULL) WITH (fillfactor = 50);

-- mark_2 stores marks. It runs in the transaction of the commit that they belong to, and fails if one has another version by now.
CREATE FUNCTION hubhook.mark_2(keys text[], versions bigint[], vals bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	m record;
BEGIN
	FOR m IN SELECT * FROM unnest(keys, versions, vals) AS m (key, version, value) LOOP
		IF m.version = 0 THEN
			INSERT INTO hubhook.mark AS t (key, version, value) VALUES (m.key, 1, m.value) ON CONFLICT (key) DO NOTHING;
		ELSE
			UPDATE hubhook.mark t SET version = m.version + 1, value = m.value WHERE t.key = m.key AND t.version = m.version;
		END IF;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'the mark % is no longer version %', m.key, m.version USING ERRCODE = 'HH002';
		END IF;
	END LOOP;
END $$;

-- lead_2 makes the caller the leader of a task, or keeps it so. If the leader changes, the marks of the task get a new version, so that
-- a late commit of the leader before is refused.
CREATE FUNCTION hubhook.lead_2(my_task text, my_token bigint, lease_for bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	now_ns bigint := hubhook.now_1();
BEGIN
	UPDATE hubhook.leader SET lease = now_ns + lease_for WHERE task = my_task AND token = my_token;
	IF FOUND THEN
		RETURN true;
	END IF;
	INSERT INTO hubhook.leader AS l (task, token, lease) VALUES (my_task, my_token, now_ns + lease_for)
	ON CONFLICT (task) DO UPDATE SET token = excluded.token, lease = excluded.lease WHERE l.lease < now_ns;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	UPDATE hubhook.mark SET version = version + 1 WHERE starts_with(key, my_task || '/');
	RETURN true;
END $$;
