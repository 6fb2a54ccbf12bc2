SELECT id FROM hubhook.delivery ORDER BY id DESC LIMIT 1
