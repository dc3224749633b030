-- Gives a node's lease up; its devices go offline at once. $1 node uuid.
select rollcall.release_lease($1)
