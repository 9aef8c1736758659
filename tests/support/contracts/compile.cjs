// Compile the contracts of the folder given; print ABI and bytecode of each as JSON.
"use strict"

const fs = require("node:fs")
const path = require("node:path")
const solc = require("solc")

const folder = process.argv[2]
const names = fs.readdirSync(folder).filter((name) => name.endsWith(".sol")).sort()
const input = {
  language: "Solidity",
  sources: Object.fromEntries(names.map((name) => [name, { content: fs.readFileSync(path.join(folder, name), "utf8") }])),
  settings: {
    optimizer: { enabled: true, runs: 200 },
    evmVersion: "cancun",
    // No hash of the sources' metadata at the end of the code: a comment changes no bytecode.
    metadata: { bytecodeHash: "none" },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } },
  },
}
const read = (name) => ({ contents: fs.readFileSync(require.resolve(name), "utf8") })
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }))
const problems = (output.errors ?? []).map((error) => error.formattedMessage)
if (problems.length > 0) {
  process.stderr.write(problems.join("\n"))
  process.exit(1)
}
const contracts = Object.fromEntries(
  names.map((file) => {
    const name = path.basename(file, ".sol")
    const { abi, evm } = output.contracts[file][name]
    return [name, { abi, bytecode: "0x" + evm.bytecode.object }]
  }),
)
process.stdout.write(JSON.stringify({ compiler: solc.version(), contracts }, null, 1) + "\n")
