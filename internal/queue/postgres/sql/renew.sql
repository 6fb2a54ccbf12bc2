SELECT * FROM hubhook.renew_1(my_process => @process, ids => @ids, tokens => @tokens, lease_for => @lease)
