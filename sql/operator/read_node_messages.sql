-- Requests and answers for a node. $1 ids bigint[], $2 the node uuid. Returns one row for each that concerns the node,
-- in the order of ids.
select m.request, m.sender, m.is_answer, m.body
from rollcall_internal.node_messages m
where m.id = any ($1) and (m.recipient = $2 or (m.recipient is null and m.sender is distinct from $2))
order by m.id
