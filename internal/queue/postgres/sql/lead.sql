SELECT hubhook.lead_2(my_task => @task, my_token => @token, lease_for => @lease)
