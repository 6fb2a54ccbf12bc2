SELECT epoch, batch, 'hubhook.end_4'::regtype::oid, 'hubhook.arrival_4'::regtype::oid FROM hubhook.connect_1(sync => @sync, my_process => @process, ids => @ids, tokens => @tokens)
