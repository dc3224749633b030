-- Deletes a node that stops, in a database without the module presence. $1 node uuid. Returns no rows.
delete from rollcall_internal.nodes where id = $1
