SELECT epoch, batch FROM hubhook.connect_1(sync => @sync, my_process => @process, ids => @ids, tokens => @tokens)
