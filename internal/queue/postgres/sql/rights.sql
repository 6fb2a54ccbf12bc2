SELECT to_regnamespace('hubhook') IS NOT NULL, has_database_privilege(current_database(), 'CREATE'),
	coalesce(has_schema_privilege(to_regnamespace('hubhook'), 'USAGE'), false), quote_ident(current_database()), quote_ident(current_user)
