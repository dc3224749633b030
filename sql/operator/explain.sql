-- What a viewer sees of a subject, and why. $1 viewer uuid, $2 subject uuid. Returns a row a face, at least one.
select e.visible, e.face::text, e.decided_by, e.policy, e.evidence, e.reason
from rollcall.explain_visibility($1, $2) e
