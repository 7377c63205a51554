-- The catalogue that a new shop opens with.
INSERT INTO inventory (sku, on_hand)
VALUES ('book', 1000000),
       ('chair', 1000000),
       ('desk', 1000000),
       ('keyboard', 1000000),
       ('lamp', 1000000),
       ('mug', 1000000),
       ('notebook', 1000000),
       ('pen', 1000000),
       ('poster', 1000000),
       ('shelf', 1000000),
       ('last-one', 1),
       ('sold-out', 0);
