-- Deliveries that came since the last look, and those that were unfinished then.
SELECT {columns}, d.token, {no content}
FROM hubhook.delivery d WHERE d.id > @since OR d.id = ANY (@open) ORDER BY d.id LIMIT @limit
