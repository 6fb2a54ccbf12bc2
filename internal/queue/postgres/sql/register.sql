INSERT INTO hubhook.process (seen) VALUES (hubhook.now_1()) RETURNING id
