SELECT id FROM hubhook.unfinished WHERE state <> {running} ORDER BY id LIMIT 500
