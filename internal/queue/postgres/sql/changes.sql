-- What came since, and what was unfinished when it was last looked at.
SELECT {columns}, d.token, {no content}
FROM hubhook.delivery d WHERE d.id > @since OR d.id = ANY (@open) ORDER BY d.id LIMIT @limit
