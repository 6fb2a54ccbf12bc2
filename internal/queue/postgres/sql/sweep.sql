SELECT hubhook.sweep_1(my_process => @process, before => @before, keep_count => @keep_count, max_rows => @rows)
