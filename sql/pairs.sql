-- Grain: one row a given user's row and an item to score: each with all items that have one of some values at a time.
-- In: given_users: whatever there is of the users; valued_items, one row a version: entity_id, value, valid_from,
--     valid_until; wanted_values: value; named_items: item_id, own_id, the item's id as its log has it; :at
--     (microseconds).
-- Columns of users are not named here, since some may pass through.
with

chosen as (
    select valued_items.entity_id
    from valued_items
    left semi join wanted_values on valued_items.value = wanted_values.value
    where
        :at >= valued_items.valid_from
        and :at < valued_items.valid_until
),

named as (
    select
        named_items.item_id,
        min(named_items.own_id) as own_id
    from named_items
    inner join chosen on named_items.item_id = chosen.entity_id
    group by named_items.item_id
)

select
    given_users.*, -- noqa: AM04
    named.own_id as item_id
from given_users
cross join named
