select {token_columns} from "workerApiTokens" order by id
