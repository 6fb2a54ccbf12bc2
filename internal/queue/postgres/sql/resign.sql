UPDATE hubhook.leader SET lease = 0 WHERE task = @task AND token = @token
