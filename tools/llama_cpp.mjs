// Asks llama.cpp what a GGUF model says, with or without a LoRA adapter: greedy decoding, one line a prompt.
//   npm install @fugood/llama.node    (llama.cpp with prebuilt binaries)
//   node tools/llama_cpp.mjs MODEL.gguf [--lora ADAPTER.gguf] PROMPT...
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import process from 'node:process'

const require = createRequire(pathToFileURL(`${process.cwd()}/`))
const { loadModel, BuildInfo } = require('@fugood/llama.node')

const [model, ...rest] = process.argv.slice(2)
const lora = rest[0] === '--lora' ? rest.splice(0, 2)[1] : undefined
if (!model || !rest.length) {
  console.error('usage: node llama_cpp.mjs MODEL.gguf [--lora ADAPTER.gguf] PROMPT...')
  process.exit(2)
}
console.log(`llama.cpp build ${BuildInfo?.number ?? 'unknown'}; ${model}${lora ? ` with ${lora}` : ''}`)
const options = { model, n_ctx: 256, n_threads: 1, n_gpu_layers: 0, ...(lora ? { lora, lora_scaled: 1 } : {}) }
for (const prompt of rest) {
  const context = await loadModel(options) // a fresh one, so that no prompt sees what another one left
  const { text } = await context.completion({ prompt, n_predict: 8, temperature: 0 })
  console.log(`${prompt} =>${text.split('\n')[0]}`)
  await context.release()
}
