SELECT name FROM hubhook.endpoint WHERE id = @id
