SELECT {columns}, u.token, u.serial,
	CASE WHEN d.burst IS NOT NULL THEN ARRAY(
		SELECT m.id FROM hubhook.delivery m WHERE m.burst = d.burst AND m.state = {merged} AND d.state <> {merged} ORDER BY m.id
	) END,
	c.header, c.body, c.encoding
FROM hubhook.delivery d LEFT JOIN hubhook.content c ON c.id = d.id LEFT JOIN hubhook.unfinished u ON u.id = d.id
WHERE d.id = @id
