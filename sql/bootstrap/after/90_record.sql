-- Records what the bootstrap created, before everything that the migrations recorded: removal runs in reverse order.
insert into rollcall_internal.installed_objects (id, kind, name, undo) overriding system value
select coalesce((select min(o.id) from rollcall_internal.installed_objects o), 0) - 10000 + c.id, c.kind, c.name, c.undo
from pg_temp.rollcall_created c
order by c.id;
