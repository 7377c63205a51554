//! What runs are described by: a row that says all of it, and an index of the values that lists find runs by.
//!
//! A run that is described by nothing costs nothing here. A value stands in the index under its kind, so that numbers
//! compare with numbers, and times with times; each text of a list has an entry of its own.

use everfold_core::attributes::{AttributeValue, Details};
use everfold_core::ids::{RunId, RunKey};
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, Result, Statement, ToSql, params};

use crate::store::rows::encode;
use crate::store::sql;

/// The kinds of values in `run_attributes`; each compares with its own only.
pub(super) const TEXT: &str = "text";
pub(super) const NUMBER: &str = "number";
pub(super) const BOOL: &str = "bool";
pub(super) const TIME: &str = "time";

/// The statements, prepared once.
pub(super) struct DetailStatements<'c> {
    details_put: Statement<'c>,
    attribute_put: Statement<'c>,
    attributes_delete: Statement<'c>,
    details_delete: Statement<'c>,
}

impl<'c> DetailStatements<'c> {
    /// Prepares the statements.
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self> {
        Ok(Self {
            details_put: connection.prepare(sql::DETAILS_PUT)?,
            attribute_put: connection.prepare(sql::ATTRIBUTE_PUT)?,
            attributes_delete: connection.prepare(sql::ATTRIBUTES_DELETE)?,
            details_delete: connection.prepare(sql::DETAILS_DELETE)?,
        })
    }

    /// Writes what a run is described by, in place of what it was.
    pub(super) fn put(&mut self, key: &RunKey, details: &Details) -> Result<()> {
        let Details { search_attributes, memo } = details;
        let row = params![key.run_id.0, key.namespace.0, encode(search_attributes), encode(memo)];
        self.details_put.execute(row)?;
        self.attributes_delete.execute([key.run_id.0])?;
        for (name, value) in search_attributes.iter() {
            match value {
                AttributeValue::Keyword(text) => self.index(key, name, TEXT, text)?,
                AttributeValue::Integer(number) => self.index(key, name, NUMBER, number)?,
                AttributeValue::Float(number) => self.index(key, name, NUMBER, number)?,
                AttributeValue::Bool(truth) => self.index(key, name, BOOL, truth)?,
                AttributeValue::Time(time) => self.index(key, name, TIME, &time.0)?,
                AttributeValue::Keywords(texts) => {
                    for text in texts {
                        self.index(key, name, TEXT, text)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn index(&mut self, key: &RunKey, name: &str, kind: &str, value: &dyn ToSql) -> Result<()> {
        let value: ToSqlOutput<'_> = value.to_sql()?;
        self.attribute_put.execute(params![key.namespace.0, name, kind, value, key.run_id.0])?;
        Ok(())
    }

    /// Forgets what a run was described by.
    pub(super) fn delete(&mut self, run_id: RunId) -> Result<()> {
        // Nothing is indexed of a run that has no row.
        if self.details_delete.execute([run_id.0])? > 0 {
            self.attributes_delete.execute([run_id.0])?;
        }
        Ok(())
    }
}
