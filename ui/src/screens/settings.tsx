export function SettingsScreen(_: any) { return <main class="page"><h1>SettingsScreen</h1></main>; }
