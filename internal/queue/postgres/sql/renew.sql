SELECT * FROM hubhook.renew_4(my_process => @process, ids => @ids, tokens => @tokens, lease_for => @lease)
