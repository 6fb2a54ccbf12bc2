SELECT * FROM hubhook.renew_3(my_process => @process, ids => @ids, tokens => @tokens, lease_for => @lease)
