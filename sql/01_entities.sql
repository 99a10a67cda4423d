-- Grain: one row a version of an entity (an item or a user), its features in a struct.
-- In: :raw, the entity's log: entity_id, valid_from (microseconds), features, reject_reason.
-- A version holds from valid_from until the next one's, exclusive. Rows of the same id and time are told apart by
-- their features alone, so that which of them is kept never changes.
with

raw_entities as (
    select *
    from identifier(:raw)
),

numbered as (
    select
        entity_id,
        valid_from,
        features,
        row_number() over (partition by entity_id, valid_from order by xxhash64(features)) as copy
    from raw_entities
    where reject_reason is null
)

select
    entity_id,
    features,
    valid_from,
    lead(valid_from, 1, 9223372036854775807) over (partition by entity_id order by valid_from) as valid_until
from numbered
where copy = 1
