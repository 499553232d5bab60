export function Prompts(_: any) { return <main class="page"><h1>Prompts</h1></main>; }
