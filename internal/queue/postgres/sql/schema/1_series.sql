-- series_1 updates the rows of serial keys after deliveries with these keys have changed. It locks the rows in order.
CREATE FUNCTION hubhook.series_1(endpoints bigint[], keys bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO hubhook.series AS s (endpoint, key, held, suspect)
	SELECT DISTINCT k.endpoint, k.key, false, false FROM unnest(endpoints, keys) AS k (endpoint, key) ORDER BY 1, 2
	ON CONFLICT (endpoint, key) DO UPDATE SET held = s.held;
	-- A statement of its own, because it must see what those did who had the locks until now.
	UPDATE hubhook.series s SET
		held = EXISTS (SELECT FROM hubhook.unfinished u WHERE u.endpoint = s.endpoint AND u.serial = s.key AND u.serial <> 0 AND u.state = {running}),
		(run_at, suspect) = (
			SELECT min(head.run_at), coalesce(bool_or(head.suspect), false) FROM (
				SELECT u.run_at, u.suspect FROM hubhook.unfinished u
				WHERE u.endpoint = s.endpoint AND u.serial = s.key AND u.serial <> 0 AND u.state <> {running}
				ORDER BY u.run_at, u.id LIMIT 1
			) head
		)
	FROM (SELECT DISTINCT k.endpoint, k.key FROM unnest(endpoints, keys) AS k (endpoint, key)) k
	WHERE s.endpoint = k.endpoint AND s.key = k.key;
END $$;
