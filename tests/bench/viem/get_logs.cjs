// getLogs and parseEventLogs of viem over a range of blocks; prints events and seconds as JSON.
const { createPublicClient, http, parseAbi, parseEventLogs } = require("viem")

const [url, first, last, step] = process.argv.slice(2)
const abi = parseAbi([
  "event ERC20NewToken(address indexed token, string name, string symbol, address indexed creator, uint256 initialSupply)",
  "event TokenTransferred(address indexed from, address indexed to, uint256 value, string name, string symbol, uint8 decimals)",
])

async function main() {
  const client = createPublicClient({ transport: http(url, { timeout: 60_000 }) })
  await client.getBlockNumber()
  const began = process.hrtime.bigint()
  let events = 0
  for (let from = BigInt(first); from <= BigInt(last); from += BigInt(step)) {
    const to = from + BigInt(step) - 1n > BigInt(last) ? BigInt(last) : from + BigInt(step) - 1n
    const logs = await client.getLogs({ fromBlock: from, toBlock: to })
    events += parseEventLogs({ abi, logs }).length
  }
  console.log(JSON.stringify({ events, seconds: Number(process.hrtime.bigint() - began) / 1e9 }))
}

main()
