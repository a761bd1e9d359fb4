-- Rows per status, with how many negatives they have and how many of each kind.
-- reads subcaptions: status, negatives.kind
SELECT status,
       count(*)                                                                        AS captions,
       round(100 * count(*) / sum(count(*)) OVER (), 1)                                AS percent,
       round(avg(len(negatives)), 1)                                                   AS negatives_per_caption,
       sum(len(list_filter(negatives, lambda n: n.kind = 'attribute')))::BIGINT        AS attribute,
       sum(len(list_filter(negatives, lambda n: n.kind = 'relation')))::BIGINT         AS relation,
       sum(len(list_filter(negatives, lambda n: n.kind = 'object')))::BIGINT           AS object
FROM subcaptions
GROUP BY status
ORDER BY captions DESC
