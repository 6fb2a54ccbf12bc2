UPDATE hubhook.process SET seen = 0 WHERE id = @process
