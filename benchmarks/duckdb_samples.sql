-- The rows that bench_samples.py builds, by DuckDB: labels, and the last 20 items that the user was shown before.
-- In: variables logs, the directory of the raw logs (benchmarks/raw_logs.py), and output, a directory to write into.
-- Out: output/ds=DAY/*.parquet. Times are microseconds since 1970-01-01 UTC; windows, look-back and half-life are
--      those of benchmarks/samples.yaml.

-- Grain: one row an exposure, click or purchase; of rows with one id the earliest counts.
create temp table exposures as
with

logged as (
    select
        exposure_id,
        user_id,
        item_id,
        epoch_us(shown_at) as shown_at
    from read_parquet(getvariable('logs') || '/exposures/*.parquet')
)

select *
from logged
qualify row_number() over (partition by user_id, exposure_id order by shown_at, item_id) = 1;

create temp table clicks as
with

logged as (
    select
        click_id,
        user_id,
        item_id,
        epoch_us(clicked_at) as clicked_at
    from read_parquet(getvariable('logs') || '/clicks/*.parquet')
)

select *
from logged
qualify row_number() over (partition by user_id, click_id order by clicked_at, item_id) = 1;

create temp table purchases as
with

logged as (
    select
        purchase_id,
        user_id,
        item_id,
        epoch_us(bought_at) as bought_at
    from read_parquet(getvariable('logs') || '/purchases/*.parquet')
)

select *
from logged
qualify row_number() over (partition by user_id, purchase_id order by bought_at, item_id) = 1;

-- Grain: one row a click that an exposure explains: the last of its user and item, at most 30 minutes before it.
-- Few of the exposures are of a user and item with a click; only those are worth sorting. An as-of join takes any
-- row of the latest time, so the last of them comes first.
create temp table credited_clicks as
with

candidates as (
    select
        exposures.user_id,
        exposures.item_id,
        exposures.shown_at,
        max(exposures.exposure_id) as exposure_id
    from exposures
    semi join clicks on exposures.user_id = clicks.user_id and exposures.item_id = clicks.item_id
    group by exposures.user_id, exposures.item_id, exposures.shown_at
)

select
    clicks.click_id,
    clicks.user_id,
    clicks.item_id,
    clicks.clicked_at,
    candidates.exposure_id
from clicks
asof join candidates
    on
        clicks.user_id = candidates.user_id
        and clicks.item_id = candidates.item_id
        and clicks.clicked_at >= candidates.shown_at
where clicks.clicked_at - candidates.shown_at <= 1_800_000_000;

-- Grain: one row an exposure that was clicked, with whether one of its clicks led to a purchase: the last credited
-- click of its user and item, at most a day before it.
create temp table clicked_exposures as
with

candidates as (
    select
        user_id,
        item_id,
        clicked_at,
        arg_max(exposure_id, click_id) as exposure_id
    from credited_clicks
    group by user_id, item_id, clicked_at
),

bought as (
    select distinct
        candidates.user_id,
        candidates.exposure_id
    from purchases
    asof join candidates
        on
            purchases.user_id = candidates.user_id
            and purchases.item_id = candidates.item_id
            and purchases.bought_at >= candidates.clicked_at
    where purchases.bought_at - candidates.clicked_at <= 86_400_000_000
),

clicked as (
    select distinct
        user_id,
        exposure_id
    from credited_clicks
)

select
    clicked.user_id,
    clicked.exposure_id,
    bought.exposure_id is not null as is_bought
from clicked
left join bought on clicked.user_id = bought.user_id and clicked.exposure_id = bought.exposure_id;

-- Grain: one row an exposure, with its item's columns and its labels.
create temp table described_exposures as
select
    exposures.*,
    coalesce(items.seller_id, -1) as seller_id,
    coalesce(items.brand_id, -1) as brand_id,
    coalesce(items.category_1, -1) as category_1,
    coalesce(items.category_2, -1) as category_2,
    clicked_exposures.exposure_id is not null as is_clicked,
    coalesce(clicked_exposures.is_bought, false) as is_bought
from exposures
left join read_parquet(getvariable('logs') || '/items/*.parquet') as items on exposures.item_id = items.item_id
left join clicked_exposures
    on
        exposures.user_id = clicked_exposures.user_id
        and exposures.exposure_id = clicked_exposures.exposure_id;

-- Grain: one row a page, all exposures of a user at one time: they have the same lists, which end before the page.
-- The 20 rows that follow a page's last row, most recent first, are the list; `within` says how many of them the
-- look-back of 7 days lets in.
create temp table pages as
with

listed as (
    select
        user_id,
        shown_at,
        list(item_id) over before as items,
        list(seller_id) over before as sellers,
        list(brand_id) over before as brands,
        list(category_1) over before as categories_1,
        list(category_2) over before as categories_2,
        list(shown_at) over before as times,
        count(*) over (
            partition by user_id
            order by shown_at desc
            range between 1 following and 604_800_000_000 following
        ) as within
    from described_exposures
    window
        recent_first as (partition by user_id order by shown_at desc, exposure_id desc),
        before as (
            partition by user_id
            order by shown_at desc, exposure_id desc
            rows between 1 following and 20 following
        )
    qualify shown_at is distinct from lead(shown_at) over recent_first
)

select
    user_id,
    shown_at,
    list_resize(coalesce(items[1:within], []), 20, -1) as items,
    list_resize(coalesce(sellers[1:within], []), 20, -1) as sellers,
    list_resize(coalesce(brands[1:within], []), 20, -1) as brands,
    list_resize(coalesce(categories_1[1:within], []), 20, -1) as categories_1,
    list_resize(coalesce(categories_2[1:within], []), 20, -1) as categories_2,
    list_resize(
        list_transform(
            coalesce(times[1:within], []),
            -- Half as much for each day of age, and above 0 at any age.
            lambda at_time: greatest(pow(2.0, (at_time - shown_at) / 86_400_000_000.0), 1.1754944e-38)::float
        ),
        20,
        0.0::float
    ) as weights
from listed;

copy (
    select
        exposures.exposure_id,
        exposures.user_id,
        exposures.item_id,
        exposures.shown_at as exposed_at,
        exposures.is_clicked::tinyint as click,
        exposures.is_bought::tinyint as purchase,
        1.0::float as weight,
        exposures.user_id as user,
        exposures.item_id as item,
        exposures.seller_id as seller,
        exposures.brand_id as brand,
        exposures.category_1,
        exposures.category_2,
        pages.items as viewed_item,
        pages.sellers as viewed_seller,
        pages.brands as viewed_brand,
        pages.categories_1 as viewed_category_1,
        pages.categories_2 as viewed_category_2,
        pages.weights as viewed_weight,
        strftime(make_timestamp(exposures.shown_at), '%Y-%m-%d') as ds
    from described_exposures as exposures
    inner join pages on exposures.user_id = pages.user_id and exposures.shown_at = pages.shown_at
)
to (getvariable('output')) (format parquet, partition_by (ds), row_group_size 32_768);
