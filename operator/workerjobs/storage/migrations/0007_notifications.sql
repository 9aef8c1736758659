-- Payments from the server wallet that deployMulticall3 made, by chain: stored before they are sent, so that whoever goes on
-- after a crash sends the very same one.
create table "workerChainPayments" (
    "chainId" bigint primary key,
    "transactionHash" text not null,
    "signedTransaction" text not null,
    "createdAt" timestamptz not null default now()
);
