-- Grain: one row a log, users or items: how many of its ids are to be scored, how many of these it has no row of at a
-- time, and in how many rows they come.
-- In: raw_candidates: user_id, item_id; known_users, known_items: entity_id, valid_from, valid_until; :at
--     (microseconds).
with

asked as (
    select
        'users' as log,
        user_id as entity_id,
        count(*) as rows
    from raw_candidates
    group by user_id
    union all
    select
        'items' as log,
        item_id as entity_id,
        count(*) as rows
    from raw_candidates
    group by item_id
),

known as (
    select
        'users' as log,
        entity_id
    from known_users
    where
        :at >= valid_from
        and :at < valid_until
    union all
    select
        'items' as log,
        entity_id
    from known_items
    where
        :at >= valid_from
        and :at < valid_until
)

select
    asked.log,
    count(*) as ids,
    count_if(known.entity_id is null) as unknown_ids,
    sum(asked.rows) as rows
from asked
left join known
    on
        asked.log = known.log
        and asked.entity_id = known.entity_id
group by asked.log
