-- Grain: one row a task (ctr, cvr, ctcvr) that has rows, with its GAUC by user: the mean of the users' AUCs, each
--     weighing as much as its user's rows of the task (Zhou et al. 2018, arXiv 1706.06978, section 6).
-- In: predictions: user_id, click, purchase, weight, pctr, pcvr, pctcvr.
-- A user whose rows of the task are all of one label has no AUC and is left out: share_of_weight says how much is
-- left in. Rows of weight 0 do not count; the CVR is that of clicked rows.
--
-- Equal predictions of a user become one row first, by all workers, whoever the user is; what is left is sorted within
-- the user and summed up from the lowest. No pairs are made, so a user with a large part of all rows costs little.
with

predictions as (
    select
        user_id,
        click,
        purchase,
        cast(weight as double) as weight,
        pctr,
        pcvr,
        pctcvr
    from predictions
    where weight > 0
),

rows_of_tasks as (
    select
        user_id,
        weight,
        inline(
            array(
                named_struct('task', 'ctr', 'p', pctr, 'is_positive', click = 1, 'is_counted', true),
                named_struct('task', 'cvr', 'p', pcvr, 'is_positive', purchase = 1, 'is_counted', click = 1),
                named_struct(
                    'task', 'ctcvr', 'p', pctcvr, 'is_positive', click = 1 and purchase = 1, 'is_counted', true
                )
            )
        ) as (task, prediction, is_positive, is_counted)
    from predictions
),

tied as (
    select
        task,
        user_id,
        prediction,
        sum(if(is_positive, weight, 0)) as positive,
        sum(if(is_positive, 0, weight)) as negative
    from rows_of_tasks
    where is_counted
    group by task, user_id, prediction
),

ranked as (
    select
        task,
        user_id,
        positive,
        negative,
        sum(negative) over (
            partition by user_id, task
            order by prediction
            rows between unbounded preceding and current row
        ) as negative_up_to_here
    from tied
),

users as (
    select
        task,
        user_id,
        sum(positive) + sum(negative) as weight,
        -- A negative row of the same prediction counts half.
        sum(positive * (negative_up_to_here - negative / 2)) / nullif(sum(positive) * sum(negative), 0) as auc
    from ranked
    group by task, user_id
)

select
    task,
    sum(weight * auc) / sum(if(auc is not null, weight, 0)) as gauc,
    count(auc) as users,
    sum(if(auc is not null, weight, 0)) / sum(weight) as share_of_weight
from users
group by task
