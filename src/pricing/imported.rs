//! The imported layer on disk: `pricing/` in the data directory.
//!
//! Each import is a folder of price files; `imports.json` names the one in force and the one before it.
//! A new import is written whole beside them and comes into force by replacing that one small file, so
//! that a crash leaves either the old layer or the new one.

use super::{Provider, format, merge::Layer, read_dir};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// File that names the imports.
const NAMES: &str = "imports.json";
/// What is known of an import, beside its price files.
const ORIGIN: &str = "import.json";

/// Where the imports of a data directory are.
#[derive(Clone, Debug)]
pub struct Imports {
    dir: PathBuf,
}

/// The imports that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// Folder of the import in force; `None` where only the embedded book is.
    pub current: Option<String>,
    /// Folder of the one before.
    pub previous: Option<String>,
}

/// Where an import came from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    /// Name, file or URL.
    pub from: String,
    /// SHA-256 of what was read, in hex.
    pub sha256: String,
    /// The `ETag` that came with it.
    pub etag: Option<String>,
    /// When it was imported.
    pub at: String,
}

impl Imports {
    /// Those of a data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("pricing") }
    }

    /// The price files in force.
    ///
    /// # Errors
    /// A message with file and line when one is damaged.
    pub fn load(&self) -> Result<Vec<Provider>, String> {
        let Some(current) = self.names()?.current else { return Ok(Vec::new()) };
        let mut files = read_dir(&self.dir.join(&current))?;
        for file in &mut files {
            file.book.clone_from(&current);
        }
        Ok(files)
    }

    /// The same as models by provider and id, with their other names.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn layer(&self) -> Result<Layer, String> {
        let mut layer = Layer::new();
        for file in self.load()? {
            let names = |id: &String| {
                let own = file.aliases.iter().filter(|(_, to)| to.iter().any(|(_, to)| to == id));
                own.map(|(name, _)| name.clone()).collect()
            };
            let models =
                file.models.iter().map(|(id, model)| (id.clone(), (names(id), model.clone())));
            layer.entry(file.name.clone()).or_default().extend(models);
        }
        Ok(layer)
    }

    /// Which imports there are.
    ///
    /// # Errors
    /// When the file that names them cannot be read.
    pub fn names(&self) -> Result<Names, String> {
        let path = self.dir.join(NAMES);
        let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let names: Names = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| problem(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Names::default(),
            Err(error) => return Err(problem(&error)),
        };
        let is_name = |name: &String| !name.contains(['/', '\\']) && !name.starts_with('.');
        if [&names.current, &names.previous].into_iter().flatten().all(is_name) {
            Ok(names)
        } else {
            Err(problem(&"names no folder beside it"))
        }
    }

    /// Where the import in force came from.
    pub fn origin(&self) -> Option<Origin> {
        let current = self.names().ok()?.current?;
        serde_json::from_slice(&fs::read(self.dir.join(current).join(ORIGIN)).ok()?).ok()
    }

    /// Writes an import and puts it in force. `files` are slug and text; all are read before.
    ///
    /// # Errors
    /// When a file would not be read again, or the disk refuses.
    pub fn install(
        &self,
        name: &str,
        files: &[(String, String)],
        origin: &Origin,
    ) -> Result<(), String> {
        for (slug, text) in files {
            format::read(&format!("{slug}.toml"), text)?;
        }
        let before = self.names()?;
        self.write(name, files, origin)
            .map_err(|error| format!("{}: {error}", self.dir.display()))?;
        let names = Names { current: Some(name.to_owned()), previous: before.current.clone() };
        self.switch(&names)?;
        // The one before last is of no use any more; what cannot be removed harms nobody.
        if let Some(old) =
            before.previous.filter(|old| Some(old) != before.current.as_ref() && old != name)
        {
            fs::remove_dir_all(self.dir.join(old)).ok();
        }
        Ok(())
    }

    /// Puts the import before this one in force again. Doing it twice changes nothing.
    ///
    /// # Errors
    /// When there is nothing to go back to, or the disk refuses.
    pub fn rollback(&self) -> Result<Names, String> {
        let Names { current, previous } = self.names()?;
        if current.is_none() && previous.is_none() {
            return Err("nothing was imported yet".to_owned());
        }
        let names = Names { current: previous, previous: current };
        if let Some(current) = &names.current {
            read_dir(&self.dir.join(current))?;
        }
        self.switch(&names)?;
        Ok(names)
    }

    fn write(&self, name: &str, files: &[(String, String)], origin: &Origin) -> io::Result<()> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        for (slug, text) in files {
            write_whole(&dir.join(format!("{slug}.toml")), text.as_bytes())?;
        }
        write_whole(&dir.join(ORIGIN), &serde_json::to_vec_pretty(origin)?)
    }

    fn switch(&self, names: &Names) -> Result<(), String> {
        let path = self.dir.join(NAMES);
        let write = || -> io::Result<()> {
            let new = self.dir.join(format!("{NAMES}.new"));
            write_whole(&new, &serde_json::to_vec(names)?)?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(price: &str) -> String {
        format!(
            "schema = 1\nprovider = \"p\"\ncurrency = \"USD\"\nsource = \"x\"\n[[model]]\nid = \"m\"\n[[model.price]]\nmtok = {{ input = \"{price}\" }}\n"
        )
    }

    fn price(imports: &Imports) -> Option<String> {
        let files = imports.load().unwrap();
        let set = files.first()?.models["m"].sets.first()?;
        Some(set.base.values().next()?.dollars())
    }

    #[test]
    fn imports_come_into_force_whole_and_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let imports = Imports::of(dir.path());
        let install = |name: &str, price: &str| {
            imports.install(name, &[("p".into(), text(price))], &Origin::default())
        };
        assert_eq!(price(&imports), None);
        assert!(imports.rollback().unwrap_err().contains("nothing was imported"));
        for (name, price) in [("one", "1"), ("two", "2"), ("three", "3")] {
            install(name, price).unwrap();
        }
        assert_eq!(price(&imports).as_deref(), Some("3"));
        assert!(!dir.path().join("pricing/one").exists(), "only the previous one is kept");
        imports.rollback().unwrap();
        assert_eq!(price(&imports).as_deref(), Some("2"));
        imports.rollback().unwrap();
        assert_eq!(price(&imports).as_deref(), Some("3"));
        let error = install("four", "0").unwrap_err();
        assert!(error.contains("p.toml"), "{error}");
        assert_eq!(price(&imports).as_deref(), Some("3"), "a bad import changes nothing");
    }

    #[test]
    fn names_stay_inside_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pricing")).unwrap();
        for name in ["../x", "/etc", "..", "a\\\\b"] {
            let text = format!("{{\"current\":\"{name}\",\"previous\":null}}");
            fs::write(dir.path().join("pricing/imports.json"), text).unwrap();
            assert!(Imports::of(dir.path()).load().unwrap_err().contains("imports.json"), "{name}");
        }
    }
}
