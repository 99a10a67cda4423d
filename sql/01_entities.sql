-- Grain: one row an entity (an item or a user), its features in a struct.
-- In: :raw, the entity's log: entity_id, features, reject_reason.
-- Rows of the same id are told apart by their features alone, so that which of them is kept never changes.
with

raw_entities as (
    select *
    from identifier(:raw)
),

numbered as (
    select
        entity_id,
        features,
        row_number() over (partition by entity_id order by xxhash64(features)) as copy
    from raw_entities
    where reject_reason is null
)

select
    entity_id,
    features
from numbered
where copy = 1
