SELECT {columns}, d.token, {no content}
FROM hubhook.unfinished u JOIN hubhook.delivery d ON d.id = u.id ORDER BY u.id LIMIT @limit
