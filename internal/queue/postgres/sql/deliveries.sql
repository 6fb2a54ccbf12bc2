SELECT {columns}, d.token, {no content}
FROM hubhook.delivery d WHERE d.id = ANY (@ids) ORDER BY d.id
