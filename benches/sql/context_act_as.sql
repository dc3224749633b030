-- Sets the user for the lifetime of the connection. $1 claims, JSON text.
select set_config('role', 'authenticated', false), set_config('request.jwt.claims', $1, false)
