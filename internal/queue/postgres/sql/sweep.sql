SELECT removed, last, kept FROM hubhook.sweep_3(my_process => @process, before => @before, keep_count => @keep_count, max_rows => @rows,
	after => @after, kept_after => @kept)
