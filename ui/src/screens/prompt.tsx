export function PromptScreen(_: any) { return <main class="page"><h1>PromptScreen</h1></main>; }
