-- Messages that name two topics and one person of the user. $1 user uuid. Returns one row per message.
select 'How do ' || one.label || ' and ' || other.label || ' go together, and what did ' || e.name || ' say of it?'
from (select t.label, row_number() over (order by t.slug) as n from rollcall.topic_profiles t where t.user_id = $1) one
join (select t.label, row_number() over (order by t.slug desc) as n from rollcall.topic_profiles t where t.user_id = $1) other using (n)
join (select e.name, row_number() over (order by e.slug) as n from rollcall.entity_profiles e where e.user_id = $1) e using (n)
